from typing import Any

import pytest

from serow.errors import TemplateError
from serow.gotemplate import Slice, Struct, parse

DATA: dict[str, Any] = {
    "Html": "<a href='x'>\"&\0",
    "Text": "aé😀\u2028\n",
    "Nil": None,
    "List": [1, "b"],
    "Map": {"k": "v"},
    "Inf": float("inf"),
    "Struct": Struct({"A": 1}, "main.T"),
    "Nested": Struct({"A": [1]}, "main.U"),
    "NilSlice": Slice(),
}


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("and 1 0 2", "0"),
        ("and 1 2", "2"),
        ("or 0 .Nil", "<no value>"),
        ("or .Nil 2 (index .List 99)", "2"),
        ("and 0 (index .List 99)", "0"),
        ("0 | or 1", "1"),
        ("not .Nil", "true"),
        ("len .Text", "11"),
        ("len .Map", "1"),
        ("index .List 1", "b"),
        ('index .Map "k"', "v"),
        ('index .Map "none"', "<no value>"),
        ('index "a" 0', "97"),
        ('slice "hello" 1', "ello"),
        ('slice "hello"', "hello"),
        ("slice .List 1 2", "[b]"),
        ("slice .List 0 1 2", "[1]"),
        ('print 1 2 "a" 3 .Nil', "1 2a3 <nil>"),
        ('println 1 "a"', "1 a\n"),
        ("html .Html", "&lt;a href=&#39;x&#39;&gt;&#34;&amp;\ufffd"),
        ("html .Nil 1", "&lt;no value&gt;1"),
        ("js .Html", "\\u003Ca href\\u003D\\'x\\'\\u003E\\\"\\u0026\\u0000"),
        ("js .Text", "aé😀\\u2028\\u000A"),
        ("urlquery .Text", "a%C3%A9%F0%9F%98%80%E2%80%A8%0A"),
        ('urlquery "a b-_.~"', "a+b-_.~"),
        ("json .Html", '"\\u003ca href=\'x\'\\u003e\\"\\u0026\\u0000"'),
        ("json .Text", '"aé😀\\u2028\\n"'),
        ('json "\\b\\f\\x7f\\xff"', '"\\b\\f\x7f\ufffd"'),
        ("json .List", '[1,"b"]'),
        ("json true", "true"),
        ("json 1e20", "100000000000000000000"),
        ("json 1e21", "1e+21"),
        ("json 1.5e-7", "1.5e-7"),
        ("json .Inf", ""),
        ('eq "a" "b" "a"', "true"),
        ("eq .Nil nil", "true"),
        ("eq .NilSlice nil", "true"),
        ("eq .Map nil", "false"),
        ("eq .Struct .Struct", "true"),
        ('eq (index "a" 0) 97', "true"),
        ('lt "é" "z"', "false"),
        ("le 1.5 1.5", "true"),
        ("gt 2 1", "true"),
        ("ge 1 2", "false"),
        ("ne true false", "true"),
    ],
)
def test_functions_give_what_gos_give(call: str, text: str) -> None:
    assert parse(f"{{{{ {call} }}}}").render(DATA) == text


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("and", "wrong number of args for and: want at least 1 got 0"),
        ("eq 1", "error calling eq: missing argument for comparison"),
        ('eq 1 "a"', "error calling eq: incompatible types for comparison: int and string"),
        ("eq .List .List", "error calling eq: non-comparable type []interface {}"),
        ("eq .Nested .Nested", "error calling eq: non-comparable type main.U"),
        ("eq .Map .List", "error calling eq: non-comparable types map[string]interface {} and []interface {}"),
        ("lt true false", "error calling lt: invalid type for comparison"),
        ("lt 1 1.5", "error calling lt: incompatible types for comparison: int and float64"),
        ("lt .Nil 1", "error calling lt: invalid type for comparison"),
        ("index .Nil 1", "error calling index: index of untyped nil"),
        ('index .List "a"', "error calling index: cannot index slice/array with type string"),
        ("index .List nil", "error calling index: cannot index slice/array with nil"),
        ("index .List 2", "error calling index: reflect: slice index out of range"),
        ("index .List 3", "error calling index: index out of range: 3"),
        ("index .List -1", "error calling index: index out of range: -1"),
        ("index .Map 1", "error calling index: value has type int; should be string"),
        ("index .Map nil", "error calling index: value is nil; should be of type string"),
        ("index 1 1", "error calling index: can't index item of type int"),
        ('slice "abc" 2 1', "error calling slice: invalid slice index: 2 > 1"),
        ('slice "abc" 0 1 2', "error calling slice: cannot 3-index slice a string"),
        ("slice .List 0 0 0 0", "error calling slice: too many slice indexes: 4"),
        ("slice .List 0 2 1", "error calling slice: invalid slice index: 2 > 1"),
        ("slice .Map", "error calling slice: can't slice item of type map[string]interface {}"),
        ("slice .Nil", "error calling slice: slice of untyped nil"),
        ("len .Nil", "error calling len: len of nil pointer"),
        ("call .Nil", "error calling call: call of nil"),
        ("call .Map 1", "error calling call: non-function .Map of type map[string]interface {}"),
        ("currentDate 1", "expected string; found 1"),
        ("currentDate .List", "wrong type for value; expected string; got []interface {}"),
        ("currentDate nil", "cannot assign nil to string"),
        ("printf .Nope", "wrong type for value; expected string; got interface {}"),
    ],
)
def test_functions_refuse_what_gos_refuse(call: str, error: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(f"{{{{ {call} }}}}").render(DATA)
    assert str(caught.value).endswith(f">: {error}")
