"""pgjdbc, in a Java machine inside of Python: nothing has to be compiled."""

import os
import threading

import jpype
from conformance import PORT, run

jpype.startJVM("-Xrs", "-Xmx128m", classpath=[os.environ["PGJDBC"]], convertStrings=True)
SQLException = jpype.JClass("java.sql.SQLException")
CopyManager = jpype.JClass("org.postgresql.copy.CopyManager")


def connect():
    properties = jpype.JClass("java.util.Properties")()
    for name, value in {"user": "app", "sslmode": "disable", "prepareThreshold": "1"}.items():
        properties.setProperty(name, value)
    return jpype.JClass("org.postgresql.Driver")().connect(f"jdbc:postgresql://127.0.0.1:{PORT}/app", properties)


connection = connect()
bytes_of = jpype.JArray(jpype.JByte)


def execute(sql):
    statement = connection.createStatement()
    statement.execute(sql)
    statement.close()


def column(sql):
    statement = connection.createStatement()
    rows = statement.executeQuery(sql)
    found = []
    while rows.next():
        found.append(int(rows.getLong(1)))
    statement.close()
    return found


def fails(code, work, *arguments):
    try:
        work(*arguments)
    except SQLException as error:
        assert str(error.getSQLState()) == code, error
        return
    raise AssertionError(f"no error {code}")


def query():
    statement = connection.createStatement()
    assert statement.execute("select 1; select 2") and statement.getMoreResults()
    rows = statement.getResultSet()
    assert rows.next() and rows.getInt(1) == 2
    statement.close()


def parameters():
    statement = connection.prepareStatement("select ?::int + ?")
    statement.setInt(1, 1)
    statement.setInt(2, 2)
    rows = statement.executeQuery()
    assert rows.next() and rows.getInt(1) == 3
    statement.close()


def prepared():
    statement = connection.prepareStatement("select pg_backend_pid(), ?::int + 1")

    def backend(number):
        statement.setInt(1, number)
        rows = statement.executeQuery()
        assert rows.next() and rows.getInt(2) == number + 1
        return int(rows.getInt(1))

    first = backend(1)
    holder = connect()
    holder.setAutoCommit(False)
    holder.createStatement().execute("select 1")
    assert backend(2) != first
    holder.close()
    for number in range(20):
        backend(number)
    statement.close()


def types():
    statement = connection.prepareStatement(
        "select ?::int4, ?::int8, ?::float8, ?::numeric, ?::bool, ?::text, ?::bytea, ?::timestamptz, ?::text, "
        "array[1, 2], '{\"a\": [1]}'::jsonb")
    at = jpype.JClass("java.time.OffsetDateTime").parse("2026-01-02T03:04:05Z")
    number = jpype.JClass("java.math.BigDecimal")("12345.678")
    for repetition in range(3):
        statement.setInt(1, 1)
        statement.setLong(2, 2**60)
        statement.setDouble(3, 1.5)
        statement.setBigDecimal(4, number)
        statement.setBoolean(5, True)
        statement.setString(6, "ä☃")
        statement.setBytes(7, bytes_of([0, -1]))
        statement.setObject(8, at)
        statement.setString(9, None)
        rows = statement.executeQuery()
        assert rows.next()
        assert (rows.getInt(1), rows.getLong(2), rows.getDouble(3), rows.getBoolean(5), rows.getString(6)) == (
            1, 2**60, 1.5, True, "ä☃")
        assert rows.getBigDecimal(4).equals(number) and list(rows.getBytes(7)) == [0, -1]
        assert rows.getObject(8, jpype.JClass("java.time.OffsetDateTime").class_).toInstant().equals(at.toInstant())
        assert rows.getString(9) is None
        assert [int(each) for each in rows.getArray(10).getArray()] == [1, 2]
        assert rows.getString(11) == '{"a": [1]}'
    statement.close()


def transaction():
    connection.setAutoCommit(False)
    execute("create table language (a int, b text)")
    execute("insert into language values (1, 'kept')")
    connection.commit()
    execute("insert into language values (2, 'lost')")
    connection.rollback()
    assert column("select a from language") == [1]
    connection.commit()


def savepoint():
    inner = connection.setSavepoint()
    fails("22012", execute, "select 1/0")
    connection.rollback(inner)
    execute("insert into language values (4, 'kept')")
    connection.commit()
    connection.setAutoCommit(True)
    assert column("select a from language order by a") == [1, 4]


def error():
    fails("22012", execute, "select 1/0")
    assert column("select 1") == [1]


def copy_in():
    source = jpype.JClass("java.io.StringReader")("".join(f"{n}\tcopied\n" for n in range(10_000)))
    assert CopyManager(connection).copyIn("copy language from stdin", source) == 10_000


def copy_out():
    out = jpype.JClass("java.io.StringWriter")()
    CopyManager(connection).copyOut("copy (select * from language where b = 'copied') to stdout", out)
    assert str(out.toString()).count("\n") == 10_000


def cursor():
    connection.setAutoCommit(False)
    statement = connection.prepareStatement("select * from generate_series(1, 1000)")
    statement.setFetchSize(100)
    rows = statement.executeQuery()
    total = 0
    while rows.next():
        total += rows.getInt(1)
    assert total == 500_500
    statement.close()
    connection.commit()
    connection.setAutoCommit(True)


def pipeline():
    statement = connection.prepareStatement("insert into language values (?, 'many')")
    for number in range(500):
        statement.setInt(1, number)
        statement.addBatch()
    assert list(statement.executeBatch()) == [1] * 500
    statement.close()


def listen():
    execute("listen news")
    other = connect()
    other.createStatement().execute("notify news, 'hello'")
    other.close()
    heard = connection.unwrap(jpype.JClass("org.postgresql.PGConnection").class_).getNotifications(10_000)
    assert [str(notification.getParameter()) for notification in heard] == ["hello"]
    execute("unlisten news")


def cancel():
    statement = connection.createStatement()
    threading.Timer(0.2, statement.cancel).start()
    fails("57014", statement.executeQuery, "select pg_sleep(30)")
    assert column("select 1") == [1]


def lost():
    fails("40003", execute, "select pg_terminate_backend(pg_backend_pid())")
    assert column("select 1") == [1]


run(globals())
connection.close()
