"""The law of the readers: whatever the bytes are, a line is a job or a rejection."""

import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from producer.sources import Rejection, read_stream
from schemas.jobs import JOB_ADAPTER

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["id", "prompt", "kind", "response", "response_a", "metadata", "x"])
records = st.dictionaries(names, json_values | st.sampled_from(["improve", "label"]), max_size=5)


def check(raw, suffix, expected_lines=None):
    lines = list(read_stream(io.BytesIO(raw), suffix))
    numbers = []
    for line in lines:
        if isinstance(line, Rejection):
            assert line.reason
            assert line.reason.isprintable()
            numbers.append(line.line_number)
        else:
            # What was let in survives the way to the ledger and back.
            assert JOB_ADAPTER.validate_json(line[1].model_dump_json()) == line[1]
            numbers.append(line[0])
    assert numbers == sorted(set(numbers))
    if expected_lines is not None:
        assert numbers == expected_lines


def filled_lines(raw):
    bare = raw.removeprefix(b"\xef\xbb\xbf")
    return [n for n, line in enumerate(bare.split(b"\n"), start=1) if line.strip()]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_json_lines(raw):
    check(raw, ".jsonl", filled_lines(raw))


@settings(max_examples=60, deadline=None)
@given(st.lists(records | json_values, max_size=4), st.booleans())
def test_any_json_as_json_lines(values, ascii_only):
    text = "\n".join(json.dumps(value, ensure_ascii=ascii_only) for value in values)
    raw = text.encode("utf-8", "surrogatepass")
    check(raw, ".jsonl", filled_lines(raw))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_csv(raw):
    check(raw, ".csv")


@settings(deadline=None)
@given(st.text(alphabet='a,"\n\r \x00\u00e9{}', max_size=80))
def test_any_rows_under_a_good_header(rows):
    check(f"prompt,metadata,x\n{rows}".encode(), ".csv")
