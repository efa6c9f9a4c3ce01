"""`lifeguard check`: every problem with file, line, key and a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.daemon import BINARY
from kit.processes import run

GOOD = """[databases.app]
upstream = "host=127.0.0.1 dbname=app"

[auth]
method = "trust"
"""


def check(folder: Path, text: str, *options: str, name: str = "lifeguard.toml"):
    path = folder / name
    path.write_text(text)
    done = run([BINARY, "check", "--config", path, *options], check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_good_file(tmp_path: Path):
    assert check(tmp_path, GOOD)[0] == 0


def test_the_shipped_file():
    shipped = Path(__file__).resolve().parents[2] / "etc/lifeguard.toml"
    done = run([BINARY, "check", "--config", shipped], check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text, words", [
    ("[pool]\npool_sise = 5", [":7:", "pool_sise", 'did you mean "pool_size"']),
    ("[pool]\npool_size = \"five\"", [":7:", "pool_size", "whole number"]),
    ("[pool]\npool_size = 0", [":7:", "pool_size"]),
    ("[pool]\nmode = \"transacton\"", [":7:", "mode", 'did you mean "transaction"']),
    ("[pool]\npool_timeout = \"30 parsecs\"", [":7:", "pool_timeout", "parsecs"]),
    ("[databse.x]\n", [":6:", "databse", "databases"]),
    ("[pool]\nlisten = 5", [":7:", "listen", "[server]"]),
    ("[pool]\npool_size = ", [":7:"]),
], ids=lambda value: value.replace("\n", " ") if isinstance(value, str) else "")
def test_a_problem_has_file_line_key_and_suggestion(tmp_path: Path, text: str, words: list[str]):
    code, out = check(tmp_path, GOOD + text + "\n")
    assert code == 1
    for word in ["lifeguard.toml", *words]:
        assert word in out


def test_all_problems_are_named_at_once(tmp_path: Path):
    code, out = check(tmp_path, GOOD + "[pool]\npool_sise = 5\nmod = 3\n[logg]\n")
    assert code == 1
    assert all(word in out for word in ("pool_sise", "mod", "logg"))


def test_auth_is_never_a_default_where_tcp_listens(tmp_path: Path):
    code, out = check(tmp_path, '[databases.app]\nupstream = "host=127.0.0.1"\n')
    assert code == 1
    assert "auth" in out and "trust" in out and "scram-sha-256" in out


def test_trust_that_others_can_reach_is_refused(tmp_path: Path):
    code, out = check(tmp_path, GOOD + '[server]\nlisten = ["0.0.0.0:6432"]\n')
    assert code == 1
    assert "allow_remote_trust" in out


def test_print_shows_effective_settings_and_no_secret(tmp_path: Path):
    text = GOOD.replace("dbname=app", "dbname=app password=geheim") + "[pool]\npool_size = 7\n"
    code, out = check(tmp_path, text, "--print")
    assert code == 0
    assert "pool_size" in out and "7" in out and "max_overflow" in out
    assert "geheim" not in out


PLACES = ['{{ env = "APP_PASSWORD" }}', '{{ file = "{folder}/app" }}', '{{ credential = "app" }}']


@pytest.mark.parametrize("place", PLACES)
def test_print_shows_where_a_password_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str):
    (tmp_path / "app").write_text("geheim\n")
    monkeypatch.setenv("APP_PASSWORD", "geheim")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    setting = "password = " + place.format(folder=tmp_path)
    code, out = check(tmp_path, GOOD + f"[users.alice]\n{setting}\n", "--print")
    assert code == 0, out
    assert setting in out
    assert "geheim" not in out


@pytest.mark.parametrize("place, word", list(zip(PLACES, ["APP_PASSWORD", "cannot be opened", "CREDENTIALS_DIRECTORY"])))
def test_a_password_that_is_not_where_it_should_be_is_named(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, word: str):
    monkeypatch.delenv("APP_PASSWORD", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    code, out = check(tmp_path, GOOD + f"[users.alice]\npassword = {place.format(folder=tmp_path)}\n")
    assert code == 1
    assert "users.alice" in out and word in out


def test_a_password_in_the_file_is_warned_about_and_never_shown(tmp_path: Path):
    code, out = check(tmp_path, GOOD + '[users.alice]\npassword = "geheim"\n', "--print")
    assert code == 0
    assert "warning" in out and "[users.alice] password" in out
    assert 'password = "********"' in out
    assert "geheim" not in out


@pytest.mark.parametrize("text, words", [
    ('[users.alice]\npassword = { enw = "A" }', [":7:", "enw", 'did you mean "env"']),
    ('[users.alice]\npassword = { env = "A", file = "/b" }', [":7:", "one place"]),
    ('[users.alice]\npassword = { credential = "../b" }', [":7:", "credential", "not a path"]),
    ("[server]\nworkers = 64", [":7:", "workers", "63"]),
    ('[server]\ntls_mode = "require"', [":7:", "tls_cert", "tls_key"]),
    ('[server]\ntls_mode = "verify-ca"\ntls_cert = "/c"\ntls_key = "/k"', [":7:", "tls_ca"]),
], ids=lambda value: value.replace("\n", " ") if isinstance(value, str) else "")
def test_doors_that_cannot_be_opened_are_refused(tmp_path: Path, text: str, words: list[str]):
    code, out = check(tmp_path, GOOD + text + "\n")
    assert code == 1
    assert all(word in out for word in words), out


@pytest.mark.parametrize("method, words", [
    ("password", ["needs file"]), ("md5", ["needs file"]), ("scram-sha-256", ["needs file"]),
    ("cert", ["tls_mode", "verify-ca"]), ("hba", ["not supported yet"]),
])
def test_a_method_that_lacks_what_it_needs_is_refused(tmp_path: Path, method: str, words: list[str]):
    code, out = check(tmp_path, GOOD.replace("trust", method))
    assert code == 1
    assert ":5:" in out and all(word in out for word in words), out


def test_a_missing_file_is_named(tmp_path: Path):
    done = run([BINARY, "check", "--config", tmp_path / "missing.toml"], check=False)
    assert done.returncode == 1
    assert "missing.toml" in done.stdout + done.stderr


def test_an_ini_is_refused_clearly(tmp_path: Path):
    code, out = check(tmp_path, "[databases]\napp = host=127.0.0.1\n", name="pgbouncer.ini")
    assert code == 1
    assert "pgbouncer.ini" in out and ".ini" in out


def test_serve_refuses_a_wrong_file_with_the_same_words(tmp_path: Path):
    path = tmp_path / "lifeguard.toml"
    path.write_text(GOOD + "[pool]\npool_sise = 5\n")
    done = run([BINARY, "serve", "--config", path], check=False, timeout=10)
    assert done.returncode == 1
    assert "pool_sise" in done.stdout + done.stderr
