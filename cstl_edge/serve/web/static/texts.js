// Texts of the page by key, from texts.json: the one file with words for people.
const response = await fetch(new URL("./texts.json", import.meta.url));
const texts = await response.json();

/** Return the text of a key with its {places} filled. A key that is missing shows itself. */
export function t(key, values = {}) {
  const text = texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Return the text for a number: KEY.one for 1, KEY.many else, with {n} filled. */
export function count(key, n, values = {}) {
  return t(`${key}.${n === 1 ? "one" : "many"}`, { n: n.toLocaleString(texts.lang), ...values });
}

export const lang = texts.lang ?? "en";
