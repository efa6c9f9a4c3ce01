"""psqlODBC, through Python's pyodbc."""

import datetime
import decimal
import os
import threading

import pyodbc
from conformance import PORT, run


def connect():
    # Protocol 7.4-2: a failed statement is rolled back by itself (a savepoint before each), not the whole transaction.
    return pyodbc.connect(f"Driver={os.environ['PSQLODBC']};Server=127.0.0.1;Port={PORT};Database=app;Uid=app;"
                          "SSLmode=disable;UseServerSidePrepare=1;Protocol=7.4-2", autocommit=True)


pyodbc.pooling = False
connection = connect()


def rows(sql, *values):
    return [tuple(row) for row in connection.execute(sql, *values).fetchall()]


def fails(code, *arguments):
    try:
        connection.execute(*arguments).fetchall()
    except pyodbc.Error as error:
        assert error.args[0] == code, error.args
        return
    raise AssertionError(f"no error {code}")


def query():
    cursor = connection.execute("select 1; select 2")
    assert cursor.fetchone()[0] == 1 and cursor.nextset() and cursor.fetchone()[0] == 2


def parameters():
    assert rows("select ?::int + ?::int", 1, 2) == [(3,)]


def prepared():
    cursor = connection.cursor()
    sql = "select pg_backend_pid(), ?::int + 1"

    def backend(number):
        pid, value = cursor.execute(sql, number).fetchone()
        assert value == number + 1
        return pid

    first = backend(1)
    holder = connect()
    holder.autocommit = False
    holder.execute("select 1").fetchall()
    assert backend(2) != first
    holder.close()
    for number in range(20):
        backend(number)
    cursor.close()


def types():
    at = datetime.datetime(2026, 1, 2, 3, 4, 5)
    values = (1, 2**60, 1.5, decimal.Decimal("12345.678"), "ä☃", b"\0\xff", at, None)
    assert rows("select ?::int4, ?::int8, ?::float8, ?::numeric, ?::text, ?::bytea, ?::timestamp, ?::text",
                *values) == [values]


def transaction():
    connection.autocommit = False
    connection.execute("create table language (a int, b text)")
    connection.execute("insert into language values (1, 'kept')")
    connection.commit()
    connection.execute("insert into language values (2, 'lost')")
    connection.rollback()
    assert rows("select a from language") == [(1,)]
    connection.commit()


def savepoint():
    # Its own, around each statement; one that a program makes would be released with them.
    fails("22012", "select 1/0")
    connection.execute("insert into language values (4, 'kept')")
    connection.commit()
    connection.autocommit = True
    assert rows("select a from language order by a") == [(1,), (4,)]


def error():
    fails("22012", "select 1/0")
    fails("42P01", "select * from no_such_table where a = ?", 1)
    assert rows("select 1") == [(1,)]


def copy_in():
    return "ODBC has no COPY"


def copy_out():
    return "ODBC has no COPY"


def cursor():
    return "reads in portions by UseDeclareFetch only, which declares cursors"


def pipeline():
    return "has no pipelines"


def listen():
    return "ODBC has no notifications"


def cancel():
    cursor = connection.cursor()
    threading.Timer(0.2, cursor.cancel).start()
    try:
        cursor.execute("select pg_sleep(30)")
    except pyodbc.Error as error:
        # ODBC's own code for it.
        assert error.args[0] in ("57014", "HY008", "S1000"), error.args
        assert rows("select 1") == [(1,)]
        return None
    raise AssertionError("not cancelled")


def lost():
    fails("40003", "select pg_terminate_backend(pg_backend_pid())")
    assert rows("select 1") == [(1,)]


run(globals())
connection.close()
