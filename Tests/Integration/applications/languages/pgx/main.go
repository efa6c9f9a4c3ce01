// Go's pgx, by itself (without database/sql).
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

var (
	background = context.Background()
	db         *pgx.Conn
)

func check(holds bool, what ...interface{}) {
	if !holds {
		log.Panic(what...)
	}
}

func must(err error) { check(err == nil, err) }

func fails(code string, err error) {
	var failed *pgconn.PgError
	check(errors.As(err, &failed) && failed.Code == code, "not ", code, ": ", err)
}

func connect() *pgx.Conn {
	connection, err := pgx.Connect(background, "")
	must(err)
	return connection
}

func exec(text string, values ...interface{}) error {
	_, err := db.Exec(background, text, values...)
	return err
}

func number(text string, values ...interface{}) (found int) {
	must(db.QueryRow(background, text, values...).Scan(&found))
	return
}

func query() string {
	results, err := db.PgConn().Exec(background, "select 1; select 2").ReadAll()
	must(err)
	check(len(results) == 2 && string(results[1].Rows[0][0]) == "2", "two results")
	return ""
}

func parameters() string {
	check(number("select $1::int + $2::int", 1, 2) == 3, "a sum")
	return ""
}

func prepared() string {
	_, err := db.Prepare(background, "mine", "select pg_backend_pid(), $1::int + 1")
	must(err)
	backend := func(number int) (pid int) {
		var value int
		must(db.QueryRow(background, "mine", number).Scan(&pid, &value))
		check(value == number+1, value)
		return
	}
	first := backend(1)
	holder := connect()
	_, err = holder.Exec(background, "begin; select 1")
	must(err)
	check(backend(2) != first, "another connection")
	must(holder.Close(background))
	for number := 0; number < 20; number++ {
		backend(number)
	}
	return ""
}

func types() string {
	var (
		long  int64
		float float64
		truth bool
		text  string
		raw   []byte
		at    time.Time
		null  *string
		array []int32
		json  map[string][]int
	)
	want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	must(db.QueryRow(background, "select $1::int8, $2::float8, $3::bool, $4::text, $5::bytea, $6::timestamptz, $7::text, "+
		"$8::int4[], $9::jsonb", int64(1)<<60, 1.5, true, "ä☃", []byte{0, 255}, want, nil, []int32{1, 2},
		map[string][]int{"a": {1}}).Scan(&long, &float, &truth, &text, &raw, &at, &null, &array, &json))
	check(long == 1<<60 && float == 1.5 && truth && text == "ä☃" && bytes.Equal(raw, []byte{0, 255}), "scalars")
	check(at.Equal(want) && null == nil && array[1] == 2 && json["a"][0] == 1, "others")
	return ""
}

func transaction() string {
	must(db.BeginTxFunc(background, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(kept pgx.Tx) error {
		must(exec("create table language (a int, b text)"))
		return exec("insert into language values ($1, 'kept')", 1)
	}))
	lost, err := db.Begin(background)
	must(err)
	must(exec("insert into language values ($1, 'lost')", 2))
	must(lost.Rollback(background))
	check(number("select sum(a) from language") == 1, "what is kept")
	return ""
}

func savepoint() string {
	must(db.BeginFunc(background, func(outer pgx.Tx) error {
		fails("22012", outer.BeginFunc(background, func(inner pgx.Tx) error { return exec("select 1/0") }))
		return exec("insert into language values ($1, 'kept')", 4)
	}))
	check(number("select sum(a) from language") == 5, "what is kept")
	return ""
}

func failure() string {
	fails("22012", exec("select 1/0"))
	fails("42P01", exec("select * from no_such_table where a = $1", 1))
	check(number("select 1") == 1, "after errors")
	return ""
}

func copyIn() string {
	rows := pgx.CopyFromSlice(10000, func(n int) ([]interface{}, error) { return []interface{}{n, "copied"}, nil })
	count, err := db.CopyFrom(background, pgx.Identifier{"language"}, []string{"a", "b"}, rows)
	must(err)
	check(count == 10000, count)
	return ""
}

func copyOut() string {
	var out bytes.Buffer
	_, err := db.PgConn().CopyTo(background, io.Writer(&out), "copy (select * from language where b = 'copied') to stdout")
	must(err)
	check(bytes.Count(out.Bytes(), []byte("\n")) == 10000, "lines")
	return ""
}

func cursor() string {
	must(db.BeginFunc(background, func(pgx.Tx) error {
		must(exec("declare portions cursor for select * from generate_series(1, 1000)"))
		total := 0
		for part := 0; part < 10; part++ {
			rows, err := db.Query(background, "fetch 100 from portions")
			must(err)
			for rows.Next() {
				var number int
				must(rows.Scan(&number))
				total += number
			}
			must(rows.Err())
		}
		check(total == 500500, total)
		return nil
	}))
	return ""
}

func pipeline() string {
	batch := &pgx.Batch{}
	for number := 0; number < 50; number++ {
		batch.Queue("select $1::int", number)
	}
	results := db.SendBatch(background, batch)
	for number := 0; number < 50; number++ {
		var found int
		must(results.QueryRow().Scan(&found))
		check(found == number, found)
	}
	must(results.Close())
	return ""
}

func listen() string {
	must(exec("listen news"))
	other := connect()
	_, err := other.Exec(background, "notify news, 'hello'")
	must(err)
	must(other.Close(background))
	limited, release := context.WithTimeout(background, 10*time.Second)
	defer release()
	heard, err := db.WaitForNotification(limited)
	must(err)
	check(heard.Payload == "hello", heard)
	must(exec("unlisten news"))
	return ""
}

// A context that ends makes pgx close the connection; the query is cancelled by its own key.
func cancel() string {
	time.AfterFunc(200*time.Millisecond, func() { must(db.PgConn().CancelRequest(background)) })
	fails("57014", exec("select pg_sleep(30)"))
	check(number("select 1") == 1, "after it")
	return ""
}

func lost() string {
	fails("40003", exec("select pg_terminate_backend(pg_backend_pid())"))
	check(number("select 1") == 1, "after it")
	return ""
}

func main() {
	db = connect()
	for _, feature := range []struct {
		name string
		work func() string
	}{
		{"query", query}, {"parameters", parameters}, {"prepared", prepared}, {"types", types},
		{"transaction", transaction}, {"savepoint", savepoint}, {"error", failure}, {"copy_in", copyIn},
		{"copy_out", copyOut}, {"cursor", cursor}, {"pipeline", pipeline}, {"listen", listen}, {"cancel", cancel}, {"lost", lost},
	} {
		if reason := feature.work(); reason != "" {
			fmt.Printf("%s: none: %s\n", feature.name, reason)
		} else {
			fmt.Printf("%s: ok\n", feature.name)
		}
	}
	must(db.Close(background))
}
