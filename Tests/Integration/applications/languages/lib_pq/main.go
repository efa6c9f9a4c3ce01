// Go's lib/pq, by database/sql.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log"
	"time"

	"github.com/lib/pq"
)

var (
	background = context.Background()
	pool       *sql.DB
	db         *sql.Conn
)

func check(holds bool, what ...interface{}) {
	if !holds {
		log.Panic(what...)
	}
}

func must(err error) { check(err == nil, err) }

func fails(code string, err error) {
	failed, is := err.(*pq.Error)
	check(is && string(failed.Code) == code, "not ", code, ": ", err)
}

func number(text string, values ...interface{}) (found int) {
	must(db.QueryRowContext(background, text, values...).Scan(&found))
	return
}

func query() string {
	rows, err := db.QueryContext(background, "select 1; select 2")
	must(err)
	defer rows.Close()
	var found int
	check(rows.Next() && !rows.Next() && rows.NextResultSet() && rows.Next(), "two results")
	must(rows.Scan(&found))
	check(found == 2, found)
	return ""
}

func parameters() string {
	check(number("select $1::int + $2::int", 1, 2) == 3, "a sum")
	return ""
}

func prepared() string {
	statement, err := db.PrepareContext(background, "select pg_backend_pid(), $1::int + 1")
	must(err)
	defer statement.Close()
	backend := func(number int) (pid int) {
		var value int
		must(statement.QueryRow(number).Scan(&pid, &value))
		check(value == number+1, value)
		return
	}
	first := backend(1)
	holder, err := pool.BeginTx(background, nil)
	must(err)
	_, err = holder.Exec("select 1")
	must(err)
	check(backend(2) != first, "another connection")
	must(holder.Rollback())
	for number := 0; number < 20; number++ {
		backend(number)
	}
	return ""
}

func types() string {
	var (
		long    int64
		float   float64
		decimal string
		truth   bool
		text    string
		raw     []byte
		at      time.Time
		null    sql.NullString
		array   pq.Int64Array
	)
	want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	must(db.QueryRowContext(background, "select $1::int8, $2::float8, $3::numeric, $4::bool, $5::text, $6::bytea, "+
		"$7::timestamptz, $8::text, $9::int8[]", int64(1)<<60, 1.5, "12345.678", true, "ä☃", []byte{0, 255}, want,
		nil, pq.Array([]int64{1, 2})).Scan(&long, &float, &decimal, &truth, &text, &raw, &at, &null, &array))
	check(long == 1<<60 && float == 1.5 && decimal == "12345.678" && truth && text == "ä☃", "scalars")
	check(bytes.Equal(raw, []byte{0, 255}) && at.Equal(want) && !null.Valid && array[1] == 2, "others")
	return ""
}

func transaction() string {
	kept, err := db.BeginTx(background, &sql.TxOptions{Isolation: sql.LevelSerializable})
	must(err)
	_, err = kept.Exec("create table language (a int, b text)")
	must(err)
	_, err = kept.Exec("insert into language values ($1, 'kept')", 1)
	must(err)
	must(kept.Commit())
	lost, err := db.BeginTx(background, nil)
	must(err)
	_, err = lost.Exec("insert into language values ($1, 'lost')", 2)
	must(err)
	must(lost.Rollback())
	check(number("select sum(a) from language") == 1, "what is kept")
	return ""
}

func savepoint() string {
	outer, err := db.BeginTx(background, nil)
	must(err)
	_, err = outer.Exec("savepoint point")
	must(err)
	_, err = outer.Exec("select 1/0")
	fails("22012", err)
	_, err = outer.Exec("rollback to point")
	must(err)
	_, err = outer.Exec("insert into language values ($1, 'kept')", 4)
	must(err)
	must(outer.Commit())
	check(number("select sum(a) from language") == 5, "what is kept")
	return ""
}

func failure() string {
	_, err := db.ExecContext(background, "select 1/0")
	fails("22012", err)
	_, err = db.ExecContext(background, "select * from no_such_table where a = $1", 1)
	fails("42P01", err)
	check(number("select 1") == 1, "after errors")
	return ""
}

func copyIn() string {
	copying, err := db.BeginTx(background, nil)
	must(err)
	statement, err := copying.Prepare(pq.CopyIn("language", "a", "b"))
	must(err)
	for number := 0; number < 10000; number++ {
		_, err = statement.Exec(number, "copied")
		must(err)
	}
	_, err = statement.Exec()
	must(err)
	must(statement.Close())
	must(copying.Commit())
	check(number("select count(*) from language where b = 'copied'") == 10000, "rows")
	return ""
}

// lib/pq gives up a connection on which it has cancelled something; the pool goes on with another.
func cancel() string {
	limited, release := context.WithTimeout(background, 200*time.Millisecond)
	defer release()
	_, err := pool.ExecContext(limited, "select pg_sleep(30)")
	fails("57014", err)
	_, err = pool.Exec("select 1")
	must(err)
	return ""
}

// A listener of lib/pq has a connection of its own.
func listen() string {
	listener := pq.NewListener("", time.Second, time.Second, nil)
	must(listener.Listen("news"))
	_, err := pool.Exec("notify news, 'hello'")
	must(err)
	select {
	case heard := <-listener.Notify:
		check(heard != nil && heard.Extra == "hello", heard)
	case <-time.After(10 * time.Second):
		check(false, "no notification")
	}
	must(listener.Close())
	return ""
}

func lost() string {
	_, err := db.ExecContext(background, "select pg_terminate_backend(pg_backend_pid())")
	fails("40003", err)
	check(number("select 1") == 1, "after it")
	return ""
}

func none(reason string) func() string { return func() string { return reason } }

func main() {
	var err error
	pool, err = sql.Open("postgres", "")
	must(err)
	db, err = pool.Conn(background)
	must(err)
	for _, feature := range []struct {
		name string
		work func() string
	}{
		{"query", query}, {"parameters", parameters}, {"prepared", prepared}, {"types", types},
		{"transaction", transaction}, {"savepoint", savepoint}, {"error", failure}, {"copy_in", copyIn},
		{"copy_out", none("has no COPY TO")}, {"cursor", none("has no portions")},
		{"pipeline", none("has no pipelines")}, {"listen", listen}, {"cancel", cancel}, {"lost", lost},
	} {
		if reason := feature.work(); reason != "" {
			fmt.Printf("%s: none: %s\n", feature.name, reason)
		} else {
			fmt.Printf("%s: ok\n", feature.name)
		}
	}
	must(db.Close())
	must(pool.Close())
}
