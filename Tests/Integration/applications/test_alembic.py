"""Alembic's migrations through the daemon, while a service works with the same tables."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from kit.daemon import Lifeguard
from kit.postgres import PostgreSQL
from kit.processes import run

MODELS = '''
from sqlalchemy import Index
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
'''

MORE_MODELS = MODELS + '''
    email: Mapped[str | None]

class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(unique=True)
'''

DATA_MIGRATION = '''
"""emails, 500 rows a transaction"""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "data", "{after}", None, None

def upgrade():
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        while connection.execute(sa.text(
            "with batch as (select id from customer where email is null order by id limit 500 for update skip locked) "
            "update customer set email = name || '@example.org' from batch where customer.id = batch.id")).rowcount:
            pass

def downgrade():
    op.execute("update customer set email = null")
'''

INDEX_MIGRATION = '''
"""an index, built while others write"""
from alembic import op

revision, down_revision, branch_labels, depends_on = "index", "data", None, None

def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("customer_email", "customer", ["email"], postgresql_concurrently=True)

def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index("customer_email", "customer", postgresql_concurrently=True)
'''


class Project:
    """A folder with Alembic's files, and its command line."""

    def __init__(self, folder: Path, template: str) -> None:
        self.folder = folder
        self("init", "-t", template, "migrations")
        self.ini = folder / "alembic.ini"

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        return run([sys.executable, "-m", "alembic", *arguments], cwd=self.folder, check=check,
                   env={**os.environ, "PYTHONPATH": str(self.folder)})

    def write_models(self, source: str) -> None:
        (self.folder / "models.py").write_text(source)

    def use(self, **urls: str) -> None:
        """Sets `sqlalchemy.url`, of one database or of several by name."""
        settings = configparser.RawConfigParser()
        settings.read(self.ini)
        for name, url in urls.items():
            section = "alembic" if name == "url" else name
            settings.has_section(section) or settings.add_section(section)
            settings.set(section, "sqlalchemy.url", url)
        if "url" not in urls:
            settings.set("alembic", "databases", ", ".join(urls))
        with self.ini.open("w") as file:
            settings.write(file)

    def take_metadata(self, old: str, new: str) -> None:
        """Tells env.py which models there are."""
        env = self.folder / "migrations/env.py"
        source = env.read_text()
        assert old in source
        env.write_text(source.replace(old, new))

    def revision(self, *arguments: str) -> Path:
        """A new revision by autogenerate; its file."""
        before = set((self.folder / "migrations/versions").glob("*.py"))
        self("revision", "--autogenerate", *arguments)
        (made,) = set((self.folder / "migrations/versions").glob("*.py")) - before
        return made

    def add(self, name: str, source: str) -> None:
        (self.folder / f"migrations/versions/{name}.py").write_text(source)


class Traffic:
    """A service that goes on inserting and reading customers, in transactions; it wants no error."""

    def __init__(self, daemon: Lifeguard) -> None:
        self.done = 0
        self._engine = create_engine(daemon.url("psycopg"))
        self._stop = threading.Event()
        self._failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._work) for _ in range(3)]

    def _work(self) -> None:
        while not self._stop.wait(0.002) and not self._failures:
            try:
                with self._engine.begin() as connection:
                    made = connection.scalar(text("insert into customer (name) values ('traffic') returning id"))
                    name = connection.scalar(text("select name from customer where id = :id"), {"id": made})
                    assert name == "traffic"
                self.done += 1
            except Exception as error:  # noqa: BLE001
                self._failures.append(error)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self._engine.dispose()
        if self._failures:
            raise self._failures[0]


@pytest.fixture
def others_empty(postgres: PostgreSQL) -> Iterator[None]:
    postgres.psql("grant create on schema public to public", database="other")
    yield
    postgres.psql("drop owned by app", database="other")


@pytest.mark.parametrize("template, driver", [("async", "asyncpg"), ("async", "psycopg"), ("generic", "psycopg2")])
def test_migrations_up_and_down_beside_traffic(
        service: Lifeguard, postgres: PostgreSQL, tmp_path: Path, template: str, driver: str):
    project = Project(tmp_path, template)
    project.use(url=service.url(driver))
    project.take_metadata("target_metadata = None", "from models import Base; target_metadata = Base.metadata")
    project.write_models(MODELS)
    project.revision("-m", "first", "--rev-id", "first")
    project("upgrade", "head")
    postgres.psql("insert into customer (name) select 'customer ' || n from generate_series(1, 2000) n")
    with Traffic(service) as traffic:
        project.write_models(MORE_MODELS)
        made = project.revision("-m", "second", "--rev-id", "second").read_text()
        assert "op.add_column('customer'" in made and "op.create_table('invoice'" in made
        project.add("data", DATA_MIGRATION.format(after="second"))
        project.add("index", INDEX_MIGRATION)
        project("upgrade", "head")
        assert "index (head)" in project("current").stdout
        valid = "select indisvalid from pg_index where indexrelid = 'customer_email'::regclass"
        assert postgres.psql(valid) == "t"
        assert postgres.psql("select count(*) from customer where email is null and name like 'customer%'") == "0"
        project("downgrade", "first")
        assert postgres.psql("select to_regclass('invoice') is null") == "t"
        before = traffic.done
        project("upgrade", "head")
        assert traffic.done > before
    assert service.pool()["cl_waiting"] == "0"


def test_a_migration_that_fails_changes_nothing(service: Lifeguard, postgres: PostgreSQL, tmp_path: Path):
    project = Project(tmp_path, "generic")
    project.use(url=service.url("psycopg"))
    project.add("wrong", '''
from alembic import op
revision, down_revision, branch_labels, depends_on = "wrong", None, None, None
def upgrade():
    op.execute("create table half_done (a int)")
    op.execute("select 1/0")
def downgrade():
    pass
''')
    failed = project("upgrade", "head", check=False)
    assert failed.returncode != 0 and "division by zero" in failed.stderr
    assert postgres.psql("select to_regclass('half_done') is null") == "t"
    assert project("current").stdout.strip() == ""


def test_two_databases_in_one_ini(service: Lifeguard, others_empty: None, postgres: PostgreSQL, tmp_path: Path):
    project = Project(tmp_path, "multidb")
    project.use(app=service.url("psycopg"), other=service.url("psycopg", database="other"))
    project.write_models(MODELS + '''
class OtherBase(DeclarativeBase):
    pass

class Log(OtherBase):
    __tablename__ = "log"
    id: Mapped[int] = mapped_column(primary_key=True)
''')
    project.take_metadata("target_metadata = {}", "import models; target_metadata = {"
                          "'app': models.Base.metadata, 'other': models.OtherBase.metadata}")
    project.revision("-m", "both")
    project("upgrade", "head")
    tables = "select string_agg(relname, ' ' order by relname) from pg_stat_user_tables"
    assert postgres.psql(tables) == "alembic_version customer"
    assert postgres.psql(tables, database="other") == "alembic_version log"
    project("downgrade", "base")
    assert postgres.psql(tables, database="other") == "alembic_version"


def test_sql_scripts_of_alembic_run_in_psql(service: Lifeguard, postgres: PostgreSQL, tmp_path: Path):
    """`--sql` for those who review what runs; psql sends it through the daemon."""
    project = Project(tmp_path, "generic")
    project.use(url=service.url("psycopg"))
    project.add("first", '''
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "first", None, None, None
def upgrade():
    op.create_table("customer", sa.Column("id", sa.Integer, primary_key=True))
def downgrade():
    op.drop_table("customer")
''')
    script = tmp_path / "up.sql"
    script.write_text(project("upgrade", "head", "--sql").stdout)
    run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", service.conninfo(), "-f", script])
    with psycopg.connect(service.conninfo()) as connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [("first",)]
