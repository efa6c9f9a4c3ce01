import Foundation
import Glibc

/// A throwaway PostgreSQL for the whole test run, with its socket and data in a folder of its own. Stops when the test
/// process is gone, however that happens: a shell waits for the end of its standard input.
final class TestServer: Sendable {
  let socketDirectory: String
  let port: UInt16

  /// nil where the server binaries are missing or cannot be run; `problem` says why.
  static var shared: TestServer? { try? started.get() }
  static var isAvailable: Bool { shared != nil }
  static var problem: String {
    if case .failure(let problem) = started { return problem.text }
    return ""
  }

  /// Connection string for user `app`, database `app`, without a password, over the Unix socket.
  var overSocket: String { "host=\(socketDirectory) port=\(port) user=app dbname=app" }
  /// The same over TCP.
  var overLoopback: String { "host=127.0.0.1 port=\(port) user=app dbname=app" }

  struct Problem: Error {
    let text: String
  }

  private static let started = Result { () throws(Problem) in try TestServer() }
  private let keeper: Process
  private let lifeline: Pipe

  private init() throws(Problem) {
    guard let binaries = Self.binaries() else { throw Problem(text: "no PostgreSQL server binaries found") }
    port = ScriptedPeer.freePort()
    let script = """
      set -eu
      umask 077
      dir=$(mktemp -d /tmp/upstream-test.XXXXXX)
      trap 'cd /; rm -rf "$dir"' EXIT
      cd "$dir"
      bin='\(binaries)'
      "$bin/initdb" -D data -A trust -U postgres -E UTF8 --locale=C -N >initdb.log </dev/null
      printf 'local all all trust\\nhost all guarded 127.0.0.1/32 scram-sha-256\\nhost all all 127.0.0.1/32 trust\\n' \
        >data/pg_hba.conf
      "$bin/pg_ctl" -D data -w -l server.log -o "-k $dir -p \(port) -c listen_addresses=127.0.0.1 -c fsync=off" start \
        >pg_ctl.log </dev/null
      trap '"$bin/pg_ctl" -D data -m immediate stop >/dev/null </dev/null; cd /; rm -rf "$dir"' EXIT
      "$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -p \(port) -U postgres -d postgres >psql.log </dev/null \
        -c "create role app login" -c "create database app owner app" \
        -c "create role guarded login password 'right one'" \
        -c "create role crowded login connection limit 0" \
        -c "create role reader login" -c "alter role reader set default_transaction_read_only = on" \
        -c "create database closed" -c "revoke connect on database closed from public"
      echo "$dir"
      cat >/dev/null
      """
    keeper = Process()
    lifeline = Pipe()
    let output = Pipe()
    let isRoot = getuid() == 0
    keeper.executableURL = URL(fileURLWithPath: isRoot ? "/usr/sbin/runuser" : "/bin/sh")
    keeper.arguments = (isRoot ? ["-u", "postgres", "--", "/bin/sh"] : []) + ["-c", script]
    keeper.currentDirectoryURL = URL(fileURLWithPath: "/")
    keeper.standardInput = lifeline
    keeper.standardOutput = output
    do { try keeper.run() } catch { throw Problem(text: "\(error)") }
    let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    socketDirectory = line.trimmingCharacters(in: .whitespacesAndNewlines)
    guard socketDirectory.hasPrefix("/") else { throw Problem(text: "PostgreSQL did not start") }
  }

  /// The newest version installed the way Debian does.
  private static func binaries() -> String? {
    let versions = (try? FileManager.default.contentsOfDirectory(atPath: "/usr/lib/postgresql")) ?? []
    return versions.sorted { (Int($0) ?? 0) > (Int($1) ?? 0) }
      .map { "/usr/lib/postgresql/\($0)/bin" }
      .first { FileManager.default.isExecutableFile(atPath: $0 + "/initdb") }
  }
}
