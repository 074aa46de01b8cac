"""Verb `models`: a list, one card, an unknown name."""

import json

from command_line import call


def test_list_names_the_default_and_its_network():
    text = call("models").stdout
    assert "cstl-walkers (" in text
    assert "used where no model is given" in text
    record = json.loads(call("models", "--json").stdout)[0]
    assert record["name"] == "cstl-walkers"
    assert record["default"] is True
    assert record["weights_sha256"][:12] in text
    assert record["network"] in text
    assert record["matching"] == "compared by cosine with a joint row"
    assert record["matching"] in text


def test_card_is_printed_and_an_unknown_name_refused():
    card = call("models", "cstl-walkers")
    assert card.stdout.startswith("# cstl-walkers")
    record = json.loads(call("models", "cstl-walkers", "--json").stdout)
    assert record["card"].strip() == card.stdout.strip()
    refused = call("models", "oak")
    assert refused.returncode == 2
    assert "expected one of the shipped models (cstl-walkers" in refused.stderr
