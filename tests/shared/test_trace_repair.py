"""Broken traces become JSON with the names that the script gave, valid ones stay as they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from chisel_shared.traces import repair

NAMES = [
    'say "hi"',
    '"',
    'end",',
    'quote", "x": 1',
    '{"ph": "X", "name": "a"}',
    '], "traceEvents": [',
    "\x01 and \x7f",
    "tab\tin it",
    "ends in a backslash \\",
    "C:\\users\\x",
    "ünï",
    "plain",
    "",
    'if x == "y":\n    print("}")\n',
]


def one_key_a_line(*names: str) -> str:
    """As torch 2.13 writes it."""
    events = ",\n".join(
        f'  {{\n    "ph": "X",\n    "cat": "user_annotation",\n    "name": "{name}",\n    "pid": 1,\n'
        f'    "tid": 2,\n    "ts": 3.5,\n    "dur": 4\n    ,\n'
        f'    "args": {{\n      "External id": 1,"Ev Idx": 0\n    }}\n  }}'
        for name in names
    )
    header = ' {\n    "schemaVersion": 1,\n    "deviceProperties": [],\n    \n      "with_stack": 1,\n'
    return header + f'    "traceEvents": [\n    \n{events}\n  ],"traceName": "x" }}\n'


def one_line_headers(*names: str) -> str:
    """As earlier versions do."""
    events = ",\n".join(
        f'  {{\n    "ph": "X", "cat": "python_function", "name": "{name}", "pid": 1, "tid": 2,\n'
        f'    "ts": 3, "dur": 4,\n    "args": {{\n      "Ev Idx": 0, "Python id": 1\n    }}\n  }}'
        for name in names
    )
    return f'{{\n  "schemaVersion": 1,\n  "traceEvents": [\n{events}\n],"traceName": "x" }}\n'


def names_of(data: bytes) -> list[str]:
    loaded: dict[str, Any] = json.loads(data)
    assert list(loaded)[-1] == "traceName"
    return [event["name"] for event in loaded["traceEvents"]]


def is_json(text: str) -> bool:
    try:
        return bool(json.loads(text))
    except ValueError:
        return False


@pytest.mark.parametrize("layout", [one_key_a_line, one_line_headers])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_the_script_called_it(layout: Any, name: str) -> None:
    text = layout("before", name, "after")
    data, mended = repair.mend(text.encode())
    assert names_of(data) == ["before", name, "after"]
    assert mended == (0 if is_json(text) else 1)


@pytest.mark.parametrize("layout", [one_key_a_line, one_line_headers])
def test_all_of_them_together(layout: Any) -> None:
    data, mended = repair.mend(layout(*NAMES).encode())
    assert names_of(data) == NAMES
    assert mended == sum(not is_json(layout(name)) for name in NAMES)
    assert repair.mend(data) == (data, 0)


def test_a_name_that_is_json_by_itself_is_left() -> None:
    text = one_key_a_line('a", "b": "c')
    assert repair.mend(text.encode()) == (text.encode(), 0)
    assert names_of(text.encode()) == ["a"]


@pytest.mark.parametrize("indent", [None, 0, 1, 4])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_valid_json_is_never_touched(indent: int | None, separators: tuple[str, str]) -> None:
    events: list[dict[str, Any]] = [
        {"ph": "X", "name": name, "pid": "Spans", "args": {"name": name, "labels": name}} for name in NAMES
    ]
    events += [{"name": name, "a": [1, None, {"name": name}], "b": -1.5e-7} for name in NAMES]
    whole: dict[str, Any] = {"schemaVersion": 1, "k": NAMES, "traceEvents": events}
    for ascii_only in (True, False):
        data = json.dumps(
            whole,
            indent=indent,
            separators=separators,
            ensure_ascii=ascii_only,
        ).encode()
        assert repair.mend(data) == (data, 0)


def test_threads_metadata_and_process_groups_have_names_too() -> None:
    text = (
        ' {\n    "schemaVersion": 1,\n    "deviceProperties": [],\n    \n      "note": "v/"al",\n'
        '      "distributedInfo": {"backend": "gloo", "pg_config": [{"pg_name": "0", "pg_desc": "a /"q/"", '
        '"backend_config": "cpu:gloo", "ranks": [0]}]},\n    "traceEvents": [\n    \n'
        '  {\n    "ph": "M",\n    "name": "thread_name",\n    "ts": 1.5,\n    "pid": 7,\n    "tid": 7,\n'
        '    "args": {\n      "name": "thread 7 (my"pro\nc)"\n    }\n  },\n'
        '  {\n    "ph": "M",\n    "name": "process_labels",\n'
        '    "args": {\n      "labels": "C"P"U"\n    }\n  },\n'
        '  {\n    "ph": "X",\n    "name": "nccl",\n    "args": {\n'
        '      "Collective name": "x", "Process Group Description": "t"p", "Process Group Ranks": "[0]"\n'
        "    }\n  }\n"
        '  ],"traceName": "x" }'
    )
    data, mended = repair.mend(text.encode())
    loaded = json.loads(data)
    assert mended == 5
    assert loaded["note"] == 'v/"al'
    assert loaded["distributedInfo"]["pg_config"][0]["pg_desc"] == 'a /"q/"'
    assert [event["args"] for event in loaded["traceEvents"]] == [
        {"name": 'thread 7 (my"pro\nc)'},
        {"labels": 'C"P"U'},
        {"Collective name": "x", "Process Group Description": 't"p', "Process Group Ranks": "[0]"},
    ]


def test_what_is_no_text_becomes_text() -> None:
    data, mended = repair.mend(one_key_a_line("a", "ZZ").encode().replace(b"ZZ", b"b\xff\xfe\xc3"))
    assert names_of(data) == ["a", "b\ufffd\ufffd\ufffd"]
    assert mended == 1


@pytest.mark.parametrize("size", [500, 5000, 1 << 20])
def test_a_file_is_mended_piece_by_piece(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "BLOCK_BYTES", size)
    monkeypatch.setattr(repair.blocks, "__defaults__", (size,))
    names = ["fine"] * 5 + NAMES * 3
    path, aside = tmp_path / "trace.json", tmp_path / "aside"
    path.write_bytes(one_line_headers(*names).encode())
    with path.open("rb") as file:
        pieces = list(repair.blocks(file))
    assert b"".join(pieces) == path.read_bytes()
    assert len(pieces) > 10 or size > 500
    assert repair.mend_file(str(path), str(aside)) == repair.mend(path.read_bytes())[1]
    assert names_of(aside.read_bytes()) == names


def test_a_valid_file_is_not_written_again(tmp_path: Path) -> None:
    path, aside = tmp_path / "trace.json", tmp_path / "aside"
    path.write_bytes(one_key_a_line("a", "b").encode())
    assert repair.mend_file(str(path), str(aside)) == 0
    assert not aside.exists()


@pytest.mark.parametrize("data", [b"", b"\0" * 3000, b'"name": "', b'"name": "x"y', b'"' * 9000])
def test_what_is_no_trace_is_left(data: bytes) -> None:
    mended, _ = repair.mend(data)
    assert mended == data
