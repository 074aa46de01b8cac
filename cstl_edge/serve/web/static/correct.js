// "This is wrong": who it really was, remembered as a correction.
import { del, get, part, post } from "./api.js";
import { act, ask, toast } from "./dom.js";
import { t } from "./texts.js";

/** Ask who a visit really was and say so; `after` shows the page anew. */
export async function correct(visit, after) {
  const { people } = await get("/people");
  const options = [["", t("correct.nobody")], ...people.map(({ name }) => [`=${name}`, name])];
  const values = await ask(t("correct.title"), [
    { name: "person", label: t("correct.who"), options, value: visit.person ? `=${visit.person}` : "" },
  ], { text: t("correct.text"), submit: t("correct.submit") });
  if (!values) return;
  const person = values.person ? values.person.slice(1) : null;
  await act(async () => {
    await post(`/visits/${part(visit.id)}/correction`, { person });
    toast(person ? t("correct.done", { person }) : t("correct.done_nobody"), {
      undo: async () => { await del(`/visits/${part(visit.id)}/correction`); await after(); },
    });
    await after();
  });
}
