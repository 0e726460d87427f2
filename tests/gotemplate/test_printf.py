from typing import Any

import pytest

from serow.gotemplate import Slice, Struct
from serow.gotemplate.budget import Budget
from serow.gotemplate.format_string import format_string
from serow.gotemplate.values import Byte

PERSON = Struct({"Name": "Ann", "Tags": ["a"], "Next": None}, "main.Person")
TOOLS = Slice((1, "<"), "api.Tools", prints_json=True)


@pytest.mark.req("GEN-08")
@pytest.mark.parametrize(
    ("text", "arguments", "printed"),
    [
        ("%v %d%% %s", [True, 5, "x"], "true 5% x"),
        (
            "%5d|%-5d|%05d|%+d|% d|%x|%X|%#x|%o|%#o|%O|%b|%#b",
            [42] * 13,
            "   42|42   |00042|+42| 42|2a|2A|0x2a|52|052|0o52|101010|0b101010",
        ),
        ("%.3d|%8.3d|%+.0d|%05d|%-05d|", [7, -7, 0, -7, 7], "007|    -007||-0007|7    |"),
        ("%c %q %U %#U %+q", [233, 10, 233, 233, 233], "é '\\n' U+00E9 U+00E9 'é' '\\u00e9'"),
        ("%c%q", [-1, 0x110000], "\ufffd'\ufffd'"),
        ("%s|%8s|%-8s|%.2s|%08s", ["héllo"] * 5, "héllo|   héllo|héllo   |hé|000héllo"),
        ("%q %#q %+q %x % X %# x", ['a"é\n', "a`b", "é", "é", "ab", "ab"], '"a\\"é\\n" "a`b" "\\u00e9" c3a9 61 62 0x61 0x62'),
        ("%#q %x|%5x|", ["a\\b", "", ""], "`a\\b` |     |"),
        (
            "%v %g %e %f %.2f %8.3f|%-8.1f|%+g|%08.2f",
            [1.5] * 9,
            "1.5 1.5 1.500000e+00 1.500000 1.50    1.500|1.5     |+1.5|00001.50",
        ),
        ("%v %v %v %v %v", [1e6, 123456.0, 1e-5, 1e21, -0.0], "1e+06 123456 1e-05 1e+21 -0"),
        (
            "%G %E %.3g %#.3g %#g %F",
            [1e-7, 1e-7, 1234.5678, 1.0, 2.0, 0.5],
            "1E-07 1.000000E-07 1.23e+03 1.00 2.00000 0.500000",
        ),
        ("%b %x %X %.2x %x", [1.0, 1.5, -0.5, 1.999, 0.0], "4503599627370496p-52 0x1.8p+00 -0X1P-01 0x1.00p+01 0x0p+00"),
        (
            "%v %+v %05v %v %f",
            [float("inf"), float("inf"), float("-inf"), float("nan"), float("nan")],
            "+Inf +Inf  -Inf NaN NaN",
        ),
        (
            "% f %+08.1f %08v %s %q",
            [0.5, 0.5, -1.5, 1j, "\udcff"],
            ' 0.500000 +00000.5 -00001.5 %!s(complex128=(0+1i)) "\\xff"',
        ),
        ("%v %.1f", [1 + 2j, -1.55j], "(1+2i) (-0.0-1.6i)"),
        ("%t %v %T %T %T %8T|", [True, False, 1, "a", [], 1.5], "true false int string []interface {}  float64|"),
        ("%T %T %T %T %T", [None, {}, PERSON, Byte(1), TOOLS], "<nil> map[string]interface {} main.Person uint8 api.Tools"),
        ("%v %+v", [PERSON, PERSON], "{Ann [a] <nil>} {Name:Ann Tags:[a] Next:<nil>}"),
        ("%#v", [PERSON], 'main.Person{Name:"Ann", Tags:[]interface {}{"a"}, Next:interface {}(nil)}'),
        (
            "%#v %#v %#v",
            [{"b": 1, "a": Byte(2)}, 1.5, Slice()],
            'map[string]interface {}{"a":0x2, "b":1} 1.5 []interface {}(nil)',
        ),
        ("%v %s %d %x %q", [["a", 1], ["a"], [1, 2], [10, "a"], ["a"]], '[a 1] [a] [1 2] [a 61] ["a"]'),
        (
            "%v %s %q %d",
            [TOOLS, TOOLS, TOOLS, Slice((1,), prints_json=True)],
            '[1,"\\u003c"] [1,"\\u003c"] "[1,\\"\\\\u003c\\"]" [1]',
        ),
        ("%d %s %t %x %z", ["x", 1, "x", True, 1], "%!d(string=x) %!s(int=1) %!t(string=x) %!x(bool=true) %!z(int=1)"),
        ("%d %v %s", [None, None, None], "%!d(<nil>) <nil> %!s(<nil>)"),
        ("%d %f", [1.5, 1], "%!d(float64=1.5) %!f(int=1)"),
        ("%d %d", [1], "1 %!d(MISSING)"),
        ("%d", [1, "a", None], "1%!(EXTRA string=a, <nil>)"),
        ("a%", [], "a%!(NOVERB)"),
        ("%!", [1], "%!!(int=1)"),
        ("%[2]d %[1]d %d", [1, 2], "2 1 2"),
        ("%[3]d %[x]d %[1]", [1, 2], "%!d(BADINDEX) %!d(BADINDEX) %!(NOVERB)"),
        ("%[2]*[1]d %*d %*d", [7, 4], "   7 %!d(MISSING) %!(BADWIDTH)%!d(MISSING)"),
        ("%*d|%*d|%.*f|%.*f", [5, 1, -5, 1, 1, 0.25, -1, 0.5], "    1|1    |0.2|%!(BADPREC)0.500000"),
        ("%*d %.*d", ["x", 1, 1.5, 2], "%!(BADWIDTH)1 %!(BADPREC)2"),
        ("%99999999d", [1], "%!(NOVERB)%!(EXTRA int=1)"),
        ("%p %w", [1, "x"], "%!p(int=1) %!w(string=x)"),
    ],
)
def test_prints_as_gos_fmt(text: str, arguments: list[Any], printed: str) -> None:
    assert format_string(Budget(), text, arguments) == printed
