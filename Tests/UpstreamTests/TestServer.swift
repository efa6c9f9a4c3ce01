import Foundation
import Glibc

/// A throwaway PostgreSQL for the whole test run, without TLS or with it, with its socket and data in a folder of its own. Stops when the test
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

  /// The same with TLS and the certificate `server` of `TestCertificates`. Its users are let in by other rules: alice by
  /// her certificate, `guarded` by SCRAM, `tlsonly` and `crowded` only with TLS,
  /// `clearonly` and `crowdedclear` only without it.
  static let secured: TestServer? = TestCertificates.shared.flatMap { try? TestServer($0, "server") }
  /// The same with the certificate `misnamed`.
  static let misnamed: TestServer? = TestCertificates.shared.flatMap { try? TestServer($0, "misnamed") }

  private static let started = Result { () throws(Problem) in try TestServer() }
  private let keeper: Process
  private let lifeline: Pipe

  private init(_ certificates: TestCertificates? = nil, _ name: String = "") throws(Problem) {
    guard let binaries = Self.binaries() else { throw Problem(text: "no PostgreSQL server binaries found") }
    port = ScriptedPeer.freePort()
    let rules =
      certificates == nil
      ? ["host all guarded 127.0.0.1/32 scram-sha-256"]
      : [
        "host all guarded 127.0.0.1/32 scram-sha-256", "hostssl all alice 127.0.0.1/32 cert",
        "hostssl all tlsonly,crowded 127.0.0.1/32 trust", "hostnossl all clearonly,crowdedclear 127.0.0.1/32 trust",
        "host all alice,tlsonly,crowded,clearonly,crowdedclear 127.0.0.1/32 reject",
      ]
    let hba = (["local all all trust"] + rules + ["host all all 127.0.0.1/32 trust"]).joined(separator: "\n")
    let tls =
      certificates.map { files in
        """
        cp '\(files.certificate(name))' data/server.crt; cp '\(files.key(name))' data/server.key
        cp '\(files.certificate("authority"))' data/ca.crt
        printf "ssl = on\\nssl_ca_file = 'ca.crt'\\n" >>data/postgresql.conf
        """
      } ?? ":"
    let script = """
      set -eu
      umask 077
      dir=$(mktemp -d /tmp/upstream-test.XXXXXX)
      trap 'cd /; rm -rf "$dir"' EXIT
      cd "$dir"
      bin='\(binaries)'
      "$bin/initdb" -D data -A trust -U postgres -E UTF8 --locale=C -N >initdb.log </dev/null
      echo '\(hba)' >data/pg_hba.conf
      \(tls)
      "$bin/pg_ctl" -D data -w -l server.log -o "-k $dir -p \(port) -c listen_addresses=127.0.0.1 -c fsync=off" start \
        >pg_ctl.log </dev/null
      trap '"$bin/pg_ctl" -D data -m immediate stop >/dev/null </dev/null; cd /; rm -rf "$dir"' EXIT
      "$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -p \(port) -U postgres -d postgres >psql.log </dev/null \
        -c "create role app login" -c "create database app owner app" \
        -c "create role guarded login password 'right one'" \
        -c "create role crowded login connection limit 0" \
        -c "create role crowdedclear login connection limit 0" \
        -c "create role alice login" -c "create role tlsonly login" -c "create role clearonly login" \
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
