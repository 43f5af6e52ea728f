"""node.toml: what it may say, and that each thing wrong in it is found, all of them at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lnfast.errors import UsageError
from lnfast.node.config import NodeConfig, Peer, examine_config, read_config
from lnfast.node.config import reading as config_module

SMALLEST = '[node]\naet = "LNFAST"\nspool = "spool"\n'
TARGET = '[[target]]\nname = "pacs"\naet = "PACS"\nhost = "10.0.0.9"\nport = 104\n'
EVERY_KEY = (
    SMALLEST
    + 'bind = "127.0.0.1"\nport = 1\nhealth_bind = "127.0.0.1"\nhealth_port = 2\n'
    + "[receive]\nallow = []\ntls = false\nquiet_s = 10\nquiet_without_release_s = 30\ngive_up_s = 900\neager = false\n"
    + 'others = "drop"\nmin_free_gib = 2\nmax_instance_mib = 64\nmax_associations = 16\n'
    + TARGET
    + 'send = ["seg"]\nenabled = true\ntls = false\n'
    + '[model]\nname = "a"\nbackend = "auto"\ndevice = "auto"\nprecision = "auto"\nthreads = 0\nshort_axis = "box"\n'
    + 'suspicious_mm = 8\nseg_frames = "sparse"\n[select]\nprefer = []\nsynthetic = false\n'
    + '[keep]\ndays = 7\ndead_days = 30\n[tls]\ncert = "c"\nkey = "k"\nca = "a"\n[watch]\npath = "w"\n'
    + '[drift]\nevery = 50\n[privacy]\nuids = false\n[log]\nformat = "text"\nlevel = "info"\n'
)


def written(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def problems(folder: Path, text: str) -> list[str]:
    config, found = examine_config(written(folder, text))
    assert (config is None) == bool(found)
    return [str(problem) for problem in found]


def only_problem(folder: Path, text: str) -> str:
    found = problems(folder, text)
    assert len(found) == 1, found
    return found[0]


def test_the_smallest_one_has_safe_defaults(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, SMALLEST))
    assert (config.aet, config.bind, config.port, config.health_bind) == ("LNFAST", "127.0.0.1", 11112, "127.0.0.1")
    assert config.spool == tmp_path / "spool"
    assert config.receive.allow == () and config.tls is None and config.watch is None and not config.receive.tls
    assert (config.receive.quiet_s, config.receive.give_up_s, config.receive.min_free_bytes) == (10, 900, 2 << 30)
    assert (config.keep.days, config.keep.dead_days, config.drift.every) == (7, 30, 50)
    assert not config.privacy.uids and not config.receive.eager and not config.select.synthetic


def test_a_full_one(tmp_path: Path) -> None:
    text = (
        SMALLEST
        + 'bind = "0.0.0.0"\nport = 104\nhealth_port = 0\n'
        + '[receive]\nallow = [{aet = "MR1", host = "10.0.0.5"}, {host = "10.0.1.7/24"}, {aet = "MR2"}]\n'
        + 'min_free_gib = 0.5\nothers = "refuse"\n'
        + TARGET
        + 'send = ["sr"]\ntls = true\n'
        + '[[target]]\nname = "vna"\naet = "VNA"\nhost = "vna"\nport = 11112\nenabled = false\n'
        + '[tls]\ncert = "c.pem"\nkey = "/etc/k.pem"\n[watch]\npath = "in"\n[model]\nname = "./model"\n'
    )
    config = read_config(written(tmp_path, text))
    assert config.receive.allow == (Peer("MR1", "10.0.0.5/32"), Peer(None, "10.0.1.0/24"), Peer("MR2", None))
    assert config.receive.min_free_bytes == 1 << 29 and config.receive.tls
    assert [target.name for target in config.targets] == ["pacs", "vna"]
    assert [target.name for target in config.enabled_targets] == ["pacs"]
    assert config.targets[0].send == ("sr",) and config.targets[1].send == ("seg", "sr")
    assert config.tls is not None and config.tls.ca is None
    assert (config.tls.cert, config.tls.key) == (tmp_path / "c.pem", Path("/etc/k.pem"))
    assert config.watch == tmp_path / "in" and config.model.name == str(tmp_path / "model")


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    plain = read_config(written(tmp_path, SMALLEST + TARGET))
    assert read_config(written(tmp_path, "\ufeff" + (SMALLEST + TARGET).replace("\n", "\r\n"))) == plain


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('[node]\naet="LNFAST"\nspool="s"\nprot=1', "config-unknown-key: [node] has no key 'prot'; did you mean port?"),
        (SMALLEST + "[recieve]\n", "config-unknown-key: there is no table 'recieve'; did you mean receive?"),
        (SMALLEST + "port = 70000", "config-value: [node] port: got 70000, wanted a whole number from 0 to 65535"),
        (SMALLEST + "port = true", "config-value: [node] port: got True, wanted a whole number from 0 to 65535"),
        (SMALLEST + "port = 104.0", "config-value: [node] port: got 104.0, wanted a whole number from 0 to 65535"),
        (SMALLEST + 'bind = "here"', "config-value: [node] bind: got 'here', wanted an address of this machine"),
        (SMALLEST + "port = 104\nhealth_port = 104", "config-value: [node] port and health_port are both 104"),
        ('[node]\nspool="s"', "config-missing-key: [node] needs the key aet"),
        ('[node]\naet="A"', "config-missing-key: [node] needs the key spool"),
        ('[node]\nspool="s"\naet="ABCDEFGHIJKLMNOPQ"', "config-value: [node] aet: got 'ABCDEFGHIJKLMNOPQ', wanted"),
        ('[node]\nspool="s"\naet="A\\\\B"', "config-value: [node] aet: got 'A\\\\B', wanted an AE title"),
        ('[node]\nspool="s"\naet=" "', "config-value: [node] aet: got ' ', wanted a text"),
        (SMALLEST + "[receive]\nquiet_s = nan", "config-value: [receive] quiet_s: got nan, wanted a number from 1 to"),
        (SMALLEST + "[receive]\nquiet_s = 0", "config-value: [receive] quiet_s: got 0, wanted a number from 1 to"),
        (SMALLEST + "[receive]\ngive_up_s = 15", "config-value: [receive] give_up_s is shorter than quiet_s"),
        (SMALLEST + '[receive]\nothers = "keep"', "config-value: [receive] others: got 'keep', wanted 'drop' or 'ref"),
        (SMALLEST + "[receive]\nallow = [{}]", "config-missing-key: [receive] allow[1] needs aet, host or both"),
        (SMALLEST + '[receive]\nallow = ["MR1"]', "config-value: [receive] allow: got ['MR1'], wanted a list of"),
        (SMALLEST + '[receive]\nallow = [{host="mr1"}]', "config-value: [receive] allow[1] host: got 'mr1', wanted an"),
        (SMALLEST + "[receive]\ntls = true", "config-value: [receive] tls: got True, wanted false, or a table [tls]"),
        (SMALLEST + "[receive]\nmax_instance_mib = 65", "config-value: [receive] max_instance_mib: got 65, wanted a"),
        (SMALLEST + 'bind = "0.0.0.0"', "config-nobody-allowed: [node] bind = '0.0.0.0' listens to other machines"),
        (SMALLEST + 'bind = "::"', "config-nobody-allowed: [node] bind = '::' listens to other machines"),
        (SMALLEST + TARGET + TARGET, "config-duplicate-target: 2 targets have the name 'pacs'; give each its own"),
        (SMALLEST + TARGET.replace("104", "0"), "config-value: [[target]] 1 port: got 0, wanted a whole number from 1"),
        (SMALLEST + TARGET + 'send = ["sg"]', "config-value: [[target]] 1 send: got ['sg'], wanted"),
        (SMALLEST + TARGET + "send = []", "config-value: [[target]] 1 send: got [], wanted"),
        (SMALLEST + TARGET + "tls = true", "config-value: [[target]] 1 tls: got True, wanted false, or a table [tls]"),
        (SMALLEST + TARGET.replace("[[target]]", "[target]"), "config-value: target is no list of tables: write [["),
        (SMALLEST + "[select]\nprefer = 'a*'", "config-value: [select] prefer: got 'a*', wanted a list of texts"),
        (SMALLEST + "[select]\nprefer = ['']", "config-value: [select] prefer: got [''], wanted a list of texts"),
        (SMALLEST + "[select]\nprefer = ['*b[8*']", "config-value: [select] prefer: got ['*b[8*'], wanted patterns"),
        (SMALLEST + "[select]\nprefer = ['a', 'a']", "config-value: [select] prefer: got ['a', 'a'], wanted each pat"),
        (SMALLEST + "[keep]\ndays = -1", "config-value: [keep] days: got -1, wanted a number from 0 to 36500"),
        (SMALLEST + '[tls]\ncert = "c"', "config-missing-key: [tls] needs the key key"),
        (SMALLEST + '[watch]\npath = "spool/in"', "config-value: [watch] path and [node] spool lie within each other"),
        (SMALLEST + "[watch]", "config-missing-key: [watch] needs the key path"),
        (SMALLEST + '[model]\nprecision = "fp8"', "config-value: [model] precision: got 'fp8', wanted 'auto', 'fp32"),
        (SMALLEST + "[model]\nsuspicious_mm = 0.8", "config-value: [model] suspicious_mm: got a limit of 0.8 mm"),
        (SMALLEST + '[log]\nformat = "xml"', "config-value: [log] format: got 'xml', wanted 'text' or 'json'"),
        ("log = 3\n" + SMALLEST, "config-value: log is no table: write [log] and its keys below it"),
        ("zzz = 'A'\n" + SMALLEST, "config-unknown-key: there is no table 'zzz'; it has node, receive"),
        ("[node", "config-unreadable: "),
    ],
)  # fmt: skip
def test_each_thing_wrong_is_one_line_that_names_it(tmp_path: Path, line: str, wanted: str) -> None:
    found = only_problem(tmp_path, line)
    assert found.startswith(wanted) and "\n" not in found


@pytest.mark.parametrize("pattern", ["*b800*", "[[]x", "b[0-9]*", "[!]]", "a]", "[]]"])
def test_patterns_that_a_shell_takes_are_taken(tmp_path: Path, pattern: str) -> None:
    assert read_config(written(tmp_path, f"{SMALLEST}[select]\nprefer = ['{pattern}']")).select.prefer == (pattern,)


def test_all_problems_are_found_at_once(tmp_path: Path) -> None:
    text = '[node]\naet = 3\nport = "x"\n[receive]\nquiet = 3\n[[target]]\nname = "a"\n[keep]\ndays = "7"\n'
    found = problems(tmp_path, text)
    assert sorted(line.partition(":")[0] for line in found) == sorted(
        ["config-value"] * 3 + ["config-unknown-key"] + ["config-missing-key"] * 4
    )
    with pytest.raises(UsageError) as refused:
        read_config(tmp_path / "node.toml")
    assert refused.value.exit_code == 2
    assert all(line.partition(": ")[2] in refused.value.message for line in found)


@pytest.mark.parametrize("make", ["missing", "folder", "utf-16"])
def test_what_cannot_be_read_is_one_problem(tmp_path: Path, make: str) -> None:
    path = tmp_path / "node.toml"
    if make == "folder":
        path.mkdir()
    elif make == "utf-16":
        path.write_bytes(SMALLEST.encode("utf-16"))
    config, found = examine_config(path)
    assert config is None and [problem.code for problem in found] == ["config-unreadable"]


def test_no_value_makes_it_fail_otherwise_than_by_a_problem(tmp_path: Path) -> None:
    """Each key gets a value of each type of TOML."""
    values = ["1", "-1", "1.5", "true", '"x"', '""', "[]", "[1]", "[[1]]", "{}", "{a = 1}", "1979-05-27", "inf"]
    text = EVERY_KEY
    for line in [line for line in text.splitlines() if " = " in line]:
        key = line.partition(" = ")[0]
        for value in values:
            config, found = examine_config(written(tmp_path, text.replace(line, f"{key} = {value}")))
            assert isinstance(config, NodeConfig) != bool(found), (key, value)


# ------------------------------------------------------------------------------------------------------- the example

EXAMPLE = Path(config_module.__file__).with_name("node.toml")
# Of tables that are absent by default, and of the two that every node has to decide.
WITHOUT_DEFAULT = {"name", "aet", "host", "port", "cert", "key", "ca", "path", "spool", "allow"}


def uncommented(text: str) -> str:
    """The example with every line that is commented out, and could be TOML, made active."""
    return re.sub(r"^( *)# (?=\[|[a-z_]+ = |\{)", r"\1", text, flags=re.MULTILINE)


def keys(text: str) -> set[tuple[str, str]]:
    """Table and key of each line."""
    table, found = "", set()
    for line in text.splitlines():
        if line.startswith("["):
            table = line.strip("[] ")
        elif match := re.match(r"([a-z_]+) = ", line):
            found.add((table, match[1]))
    return found


def test_the_example_as_it_is_has_all_defaults(tmp_path: Path) -> None:
    example = read_config(EXAMPLE)
    smallest = read_config(written(tmp_path, '[node]\naet = "LNFAST"\nspool = "/var/lib/lnfast"\n'))
    assert example == smallest


def test_the_example_has_every_key_and_only_keys_that_are_read(tmp_path: Path) -> None:
    text = uncommented(EXAMPLE.read_text(encoding="utf-8"))
    assert keys(text) == keys(EVERY_KEY)
    config = read_config(written(tmp_path, text))
    assert config.receive.allow and config.targets and config.tls and config.watch


@pytest.mark.parametrize(("table", "key"), sorted(keys(EVERY_KEY)))
def test_every_key_is_read(tmp_path: Path, table: str, key: str) -> None:
    """A key that the reader passed over would take any value."""
    text = re.sub(rf"(^\[+{table}\]+\n(?:[^\[\n].*\n)*?{key} = ).*", r"\g<1>1979-05-27", EVERY_KEY, flags=re.MULTILINE)
    assert text != EVERY_KEY
    found = problems(tmp_path, text)
    assert any(f"{table}]" in line and f" {key}: got datetime.date(1979, 5, 27)" in line for line in found)


def test_each_default_of_the_example_is_the_default(tmp_path: Path) -> None:
    """Each commented line alone changes nothing, so what it says is what holds without it."""
    text = EXAMPLE.read_text(encoding="utf-8")
    seen = 0
    for line in text.splitlines():
        match = re.match(r"# ([a-z_]+) = ", line)
        if match and match[1] not in WITHOUT_DEFAULT | {"send", "enabled"} and "the certificate of [tls]" not in line:
            seen += 1
            changed = text.replace(line, line.removeprefix("# "))
            assert read_config(written(tmp_path, changed)) == read_config(EXAMPLE), line
    assert seen >= 25
