"""Watching how many connections PostgreSQL has, while something else goes on."""

from __future__ import annotations

import threading

import psycopg

from .postgres import PostgreSQL


class Sampler:
    """Counts a user's connections over and over, on a connection of its own that does not go through the daemon.

    Every row of pg_stat_activity counts, whatever its state: those that log in and those that are being closed too.
    """

    def __init__(self, postgres: PostgreSQL, user: str = "app") -> None:
        self.highest = 0
        self.samples = 0
        self._user = user
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._connection = psycopg.connect(postgres.superuser("postgres"), autocommit=True)
        self._thread = threading.Thread(target=self._sample, name="sampler", daemon=True)

    def _sample(self) -> None:
        try:
            with self._connection.cursor() as cursor:
                while not self._stop.wait(0.005):
                    cursor.execute("select count(*) from pg_stat_activity where usename = %s", [self._user])
                    self.highest = max(self.highest, cursor.fetchone()[0])
                    self.samples += 1
        except Exception as error:  # noqa: BLE001
            self._failure = error

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(10)
        self._connection.close()
        if self._failure:
            raise self._failure
