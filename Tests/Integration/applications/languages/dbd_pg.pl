#!/usr/bin/perl
# Perl's DBD::Pg.
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg qw(:pg_types :async);

$| = 1;
my $db = connect_once();

sub connect_once {
  return DBI->connect("dbi:Pg:", undef, undef, { RaiseError => 1, PrintError => 0, AutoCommit => 1 });
}

sub check { my ($holds, $what) = @_; die "$what\n" unless $holds; }

sub fails {
  my ($code, $work) = @_;
  eval { $work->(); 1 } and die "no error $code\n";
  check($db->state eq $code, "@{[$db->state]}, not $code: $@");
}

my @features = (
  query => sub {
    check($db->do("select 1; select 2"), "two statements");
  },
  parameters => sub {
    check($db->selectrow_array("select ?::int + ?::int", undef, 1, 2) == 3, "a sum");
  },
  prepared => sub {
    my $statement = $db->prepare("select pg_backend_pid(), ?::int + 1", { pg_prepare_now => 1 });
    my $backend = sub {
      my ($pid, $value) = $db->selectrow_array($statement, undef, @_);
      check($value == $_[0] + 1, "a value");
      return $pid;
    };
    my $first = $backend->(1);
    my $holder = connect_once();
    $holder->begin_work;
    $holder->do("select 1");
    check($backend->(2) != $first, "another connection");
    $holder->disconnect;
    $backend->($_) for 1 .. 20;
  },
  types => sub {
    my $statement = $db->prepare(
      "select ?::int8, ?::float8, ?::numeric, ?::bool, ?::text, ?::bytea, ?::text, ?::int4[]");
    my @values = ("1152921504606846976", 1.5, "12345.678", 1, "ä☃", "\x00\xff", undef, [1, 2]);
    for my $n (0 .. $#values) {
      $statement->bind_param($n + 1, $values[$n], $n == 5 ? { pg_type => PG_BYTEA } : ());
    }
    $statement->execute;
    my @row = $statement->fetchrow_array;
    for my $n (0 .. 5) { check($row[$n] eq $values[$n], "value $n: $row[$n]"); }
    check(!defined $row[6] && "@{$row[7]}" eq "1 2", "null and array");
  },
  transaction => sub {
    $db->begin_work;
    $db->do("create table language (a int, b text)");
    $db->do("insert into language values (1, 'kept')");
    $db->commit;
    $db->begin_work;
    $db->do("insert into language values (2, 'lost')");
    $db->rollback;
    check("@{$db->selectcol_arrayref('select a from language')}" eq "1", "what is kept");
  },
  savepoint => sub {
    $db->begin_work;
    $db->pg_savepoint("point");
    fails("22012", sub { $db->do("select 1/0") });
    $db->pg_rollback_to("point");
    $db->do("insert into language values (4, 'kept')");
    $db->commit;
    check("@{$db->selectcol_arrayref('select a from language order by a')}" eq "1 4", "what is kept");
  },
  error => sub {
    fails("22012", sub { $db->do("select 1/0") });
    fails("42P01", sub { $db->do("select * from no_such_table where a = ?", undef, 1) });
    check($db->selectrow_array("select 1") == 1, "after errors");
  },
  copy_in => sub {
    $db->do("copy language from stdin");
    $db->pg_putcopydata("$_\tcopied\n") for 1 .. 10_000;
    $db->pg_putcopyend;
  },
  copy_out => sub {
    $db->do("copy (select * from language where b = 'copied') to stdout");
    my ($count, $line) = (0, "");
    $count++ while $db->pg_getcopydata($line) >= 0;
    check($count == 10_000, "$count lines");
  },
  cursor => sub {
    my $total = 0;
    $db->begin_work;
    $db->do("declare portions cursor for select * from generate_series(1, 1000)");
    while (my @part = @{$db->selectcol_arrayref("fetch 100 from portions")}) { $total += $_ for @part; }
    $db->commit;
    check($total == 500_500, "$total");
  },
  pipeline => sub { return "has no pipelines" },
  listen => sub {
    $db->do("listen news");
    my $other = connect_once();
    $other->do("notify news, 'hello'");
    $other->disconnect;
    my $heard;
    for (1 .. 1000) {
      last if $heard = $db->pg_notifies;
      select(undef, undef, undef, 0.01);
    }
    check($heard && $heard->[2] eq "hello", "a notification");
    $db->do("unlisten news");
  },
  cancel => sub {
    my $other = connect_once();
    $db->do("select pg_sleep(30)", { pg_async => PG_ASYNC });
    # A server that has not read the query yet takes no notice of a cancel request.
    my $running = "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(30)'";
    1 until $other->selectrow_array($running);
    $other->disconnect;
    check($db->pg_cancel, "cancelled");
    check($db->state eq "57014", $db->state);
    check($db->selectrow_array("select 1") == 1, "after it");
  },
  lost => sub {
    fails("40003", sub { $db->do("select pg_terminate_backend(pg_backend_pid())") });
    check($db->selectrow_array("select 1") == 1, "after it");
  },
);

while (my ($name, $work) = splice(@features, 0, 2)) {
  my $reason = $work->();
  print "$name: ", (defined $reason && $reason =~ /^has no/ ? "none: $reason" : "ok"), "\n";
}
$db->disconnect;
