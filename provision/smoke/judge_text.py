"""Tokenizer and chat template, judged: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from provision.smoke.judge import REFETCH, Answer
from provision.smoke.types import Check, Status

# What engine/children/chat_template.py calls a template that stands in for the file's.
OWN_TEMPLATE = "own template"

RECONVERT = "take another conversion of the model"
SYSTEM = "Be brief."
NAMES = {"u": "user", "su": "system and user", "uau": "three turns"}


def judge_tokenizer(answer: Answer) -> list[Check]:
    """D1 text survives the tokenizer, D2 control words are one token, D3 the pre-tokenizer is named."""
    facts = answer.get("tokenizer")
    if not facts:
        return [Check(id="D1-round-trip", status="skip", summary="the tokenizer was not measured")]
    broken = facts["round_trip_failures"]
    allowed = 2  # a small vocabulary without byte fallback may lack a script; more than that is a wrong tokenizer
    status: Status = "pass" if not broken else "warn" if len(broken) <= allowed else "fail"
    checks = [
        Check(
            id="D1-round-trip",
            status=status,
            summary=f"{facts['round_trips'] - len(broken)}/{facts['round_trips']} texts survive the tokenizer"
            + (f"; first lost: {broken[0]!r}" if broken else ""),
            value=len(broken),
            threshold=0,
            remedy=REFETCH if broken else None,
        )
    ]
    split = facts["control_tokens_split"]
    checks.append(
        Check(
            id="D2-control-tokens",
            status="fail" if split else "pass" if facts["control_tokens"] else "warn",
            summary=f"control words are not read as one token: {', '.join(split)}"
            if split
            else f"{facts['control_tokens']} control tokens, each read as one",
            value=len(split),
            threshold=0,
            remedy=REFETCH if split else None,
        )
    )
    if facts["bos_is_ordinary"]:
        checks.append(
            Check(
                id="D2-special-ids",
                status="warn",
                summary="the token that opens a text (BOS) is an ordinary piece of text to this file",
                value=facts["bos"],
                remedy=RECONVERT,
            )
        )
    missing = facts["model"] == "gpt2" and facts["pre"] in (None, "default")
    checks.append(
        Check(
            id="D3-pre-tokenizer",
            status="warn" if missing else "pass",
            summary="the file does not say how text is split before BPE; long words and numbers may be read wrongly"
            if missing
            else f"tokenizer {facts['model']}" + (f", pre-tokenizer {facts['pre']}" if facts["pre"] else ""),
            value=facts["pre"],
            remedy="take a newer conversion of the model" if missing else None,
        )
    )
    return checks


def _whose(facts: Answer) -> str:
    if facts["format"] == OWN_TEMPLATE:
        return "the one given in place of the file's"
    return "from the file" if facts["in_file"] else str(facts["format"])


def judge_template(answer: Answer) -> list[Check]:
    """D5 a template of its own, D6 it renders with exactly one BOS, D8 an assistant's turn ends generation."""
    facts = answer.get("template")
    if not facts:
        return [Check(id="D5-template", status="skip", summary="the chat template was not measured")]
    fallback = not facts["in_file"] and facts["format"] == "llama-2"
    checks = [
        Check(
            id="D5-template",
            status="fail" if fallback else "pass",
            summary="the file has no chat template, so the engine silently uses llama-2's"
            if fallback
            else f"chat template: {_whose(facts)}",
            value=facts["format"],
            remedy="take an instruct/chat GGUF of the model, or name chat_format in the recipe" if fallback else None,
        )
    ]
    checks.append(_render_check(facts, add_bos=answer["tokenizer"]["add_bos"]))
    checks.append(_compared_check(facts))
    checks.append(_early_end_check(answer["tokenizer"]["ordinary_endings"]))
    closing = facts.get("closing")
    if closing is None:
        checks.append(Check(id="D8-turn-ends", status="skip", summary="the template hides where an assistant's turn ends"))
    else:
        good = closing["is_eog"]
        checks.append(
            Check(
                id="D8-turn-ends",
                status="pass" if good else "fail",
                summary=f"{closing['text'].strip()!r} closes an assistant's turn"
                + (" and ends generation" if good else " but does not end generation: answers will run on"),
                value=closing["text"].strip(),
                threshold="end of generation",
                remedy=None if good else "the EOS id of this file is wrong; take another conversion of the model",
            )
        )
    return checks


def _early_end_check(words: Sequence[str]) -> Check:
    # Old conversions mark real control words as text; those look like what they are and hurt nobody.
    harmful = [word for word in words if not re.fullmatch(r"<[^>]*>|\[[^\]]*\]|<\|.*", word)]
    named = ", ".join(repr(word) for word in harmful or words)
    return Check(
        id="D8-early-end",
        status="fail" if harmful else "warn" if words else "pass",
        summary=f"ordinary text ends generation: {named}" if words else "no ordinary word ends generation",
        value=len(words),
        threshold=0,
        remedy=RECONVERT if words else None,
    )


def _render_check(facts: Mapping[str, Any], *, add_bos: bool) -> Check:
    problems, dropped = [], False
    if facts.get("header_missing"):
        problems.append(f"the prompt does not hand the turn to the assistant ({facts['header_missing']!r} is missing)")
    for key, render in facts["renders"].items():
        refuses_system = key == "su" and re.search(r"system|role", render.get("error", ""), re.IGNORECASE)
        if "error" in render:
            if not refuses_system:
                problems.append(f"{NAMES[key]}: {render['error']}")
        elif render["missing"] == [SYSTEM]:
            dropped = True
        elif render["missing"]:
            problems.append(f"{NAMES[key]}: {render['missing'][0]!r} is missing from the prompt")
        elif render["leading_bos"] > 1:
            problems.append(f"{NAMES[key]}: {render['leading_bos']} BOS tokens, one is right")
        elif add_bos and render["leading_bos"] == 0:
            problems.append(f"{NAMES[key]}: no BOS token, the tokenizer asks for one")
    only_bos_missing = all("no BOS token" in problem for problem in problems)
    # Some models know no system role; a template that leaves it out in silence is what a user must be told of.
    said = [*problems, *(["the system prompt is left out without a word"] if dropped else [])]
    return Check(
        id="D6-renders",
        status="pass" if not said else "warn" if only_bos_missing else "fail",
        summary="; ".join(said) if said else "conversations render with the right BOS",
        value=len(said),
        threshold=0,
        remedy="take another conversion of the model, or correct the template" if said else None,
    )


def _compared_check(facts: Mapping[str, Any]) -> Check:
    compared = facts.get("compared")
    if compared is None:
        return Check(id="D7-template-original", status="skip", summary="there is no template to compare renderings with")
    own = compared["against"] == "own"
    whose = "the file's own template (the published one is not at hand)" if own else "the published chat template"
    differs = compared["differs"]
    first = (
        f": {NAMES[differs[0]['name']]} has {differs[0]['got']!r} where {differs[0]['wanted']!r} is right" if differs else ""
    )
    # Never a failure: a converter may have corrected the published template, and llama-cpp-python puts a built-in format in
    # the place of three templates it knows (0.3.36; its ChatML adds an empty system turn).
    return Check(
        id="D7-template-original",
        status="warn" if differs else "pass",
        summary=f"renders {'unlike' if differs else 'like'} {whose}{first}",
        value=len(differs),
        threshold=0,
        remedy=("give the template in a recipe, which is used as it is: [chat] template" if own else RECONVERT)
        if differs
        else None,
    )
