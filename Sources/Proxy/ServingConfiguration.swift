import Authentication
import Glibc
import Reactor
public import Settings
import Upstream

/// Settings with all that they refer to: certificates, users and their secrets, passwords kept elsewhere. Made as a whole
/// or not at all, at the start and at each reload; immutable, and shared by all workers. Holds secrets.
public final class ServingConfiguration: Sendable {
  /// The settings.
  public let settings: Settings
  /// Rises from each to the one that replaces it.
  let number: Int
  /// What is doubtful about the files, one line each, without secrets.
  public let warnings: [String]
  /// `[auth] file`; empty where there is none.
  let userlist: Userlist
  /// What clients are checked against.
  let verifiers: LoginVerifiers
  /// For TLS with clients; nil where it is not offered.
  let tls: TLSServerContext?
  /// `client_login_timeout`; nil where there is none.
  let loginTimeoutNanoseconds: Int64?
  private let databasePasswords: [String: String]
  private let userPasswords: [String: String]
  /// What unknown users' salts are derived from: the same for as long as the daemon runs, as salts do not change.
  private let key: [UInt8]

  /// Reads what the settings refer to.
  ///
  /// - Parameter previous: what is served now, on a reload.
  /// - Throws: everything that is wrong, also what only libpq finds wrong with an upstream.
  public init(_ settings: Settings, replacing previous: ServingConfiguration? = nil) throws(ConfigurationError) {
    self.settings = settings
    number = (previous?.number ?? 0) + 1
    loginTimeoutNanoseconds = settings.server.clientLoginTimeout?.nanoseconds
    var problems: [String] = []
    var warnings: [String] = []
    key = previous?.key ?? RandomBytes.make(count: 32)

    var userlist = Userlist.empty
    if let file = settings.auth.file {
      do {
        userlist = try Userlist.load(path: file)
        warnings += userlist.warnings.map { "[auth] file: \(file): \($0)" }
      } catch {
        problems.append("[auth] file: \(error.message)")
      }
    }
    self.userlist = userlist
    verifiers = LoginVerifiers(
      userlist, method: settings.auth.consoleMethod, key: key, reusing: previous?.verifiers)

    var tls: TLSServerContext?
    if settings.server.tlsMode.offersTLS, let certificate = settings.server.tlsCertificate,
      let key = settings.server.tlsKey
    {
      do {
        tls = try TLSServerContext(
          certificateFile: certificate, keyFile: key, authorityFile: settings.server.tlsAuthority,
          clientCertificates: settings.server.tlsMode.requiresClientCertificate ? .required : .ignored)
      } catch {
        problems.append(ServingConfiguration.describe(error, settings.server))
      }
    }
    self.tls = tls
    for (key, file) in [("[auth] file", settings.auth.file), ("[server] tls_key", settings.server.tlsKey)] {
      if let file, ServingConfiguration.isReadableByAll(file) {
        warnings.append("\(key): \(file) can be read by every user of this machine (chmod 600)")
      }
    }

    databasePasswords = ServingConfiguration.passwords(
      settings.databases.mapValues(\.password), section: "databases", &problems)
    userPasswords = ServingConfiguration.passwords(settings.users.mapValues(\.password), section: "users", &problems)
    self.warnings = warnings

    for section in settings.databases.values.sorted(by: { $0.name < $1.name }) {
      do {
        _ = try target(section, database: section.name, user: section.upstream["user"] ?? "any")
      } catch {
        problems.append("[databases.\(section.name)] upstream: \(error.text)")
      }
      guard let upstream = section.readUpstream else { continue }
      do {
        _ = try readTarget(upstream, section, database: section.name, user: section.upstream["user"] ?? "any")
      } catch {
        problems.append("[databases.\(section.name)] read_upstream: \(error.text)")
      }
    }
    if !problems.isEmpty { throw ConfigurationError(problems: problems) }
  }

  /// The users of `[auth] file`.
  public var users: [String] { userlist.users }

  /// The hosts of a database's upstream, as `host:port`, and whether its sessions have to be on a primary; nil where that
  /// does not matter.
  public func upstream(of database: String) -> (hosts: [String], wantsPrimary: Bool?) {
    guard let section = settings.database(named: database),
      let target = try? target(section, database: database, user: section.upstream["user"] ?? "any")
    else { return ([], nil) }
    let wantsPrimary: Bool? =
      switch target.sessionAttributes {
      case .any, .preferStandby: nil
      case .readWrite, .primary: true
      case .readOnly, .standby: false
      }
    return (target.hosts.map(\.label), wantsPrimary)
  }

  /// What libpq connects to for a pool.
  ///
  /// The password is, in this order: where the upstream names its user, the one in the upstream; the user's own
  /// (`[users.NAME] password`, then a plain secret in `[auth] file`); the database's (`[databases.NAME] password`, then
  /// the one in the upstream); `known`; what libpq finds (`.pgpass`, service file, environment).
  ///
  /// - Parameters:
  ///   - user: the server's user.
  ///   - known: the password that the client has proven, under `method = "upstream"`.
  func target(
    _ section: DatabaseSettings, database: String, user: String, known: Password? = nil
  ) throws(Upstream.ConninfoError) -> ConnectionTarget {
    try ConnectionTarget(
      conninfo: section.upstream.text,
      overrides: overrides(
        section, isUserFixed: section.upstream["user"] != nil, database: database, user: user, known: known))
  }

  private func overrides(
    _ section: DatabaseSettings, isUserFixed: Bool, database: String, user: String, known: Password?
  ) -> [(keyword: String, value: String)] {
    var overrides = ServingConfiguration.names(section, database: database, user: user)
    let own = isUserFixed ? nil : userPasswords[user] ?? userlist.plainPassword(of: user)?.text
    if let own {
      overrides.append(("password", own))
    } else if let password = databasePasswords[section.name] {
      overrides.append(("password", password))
    } else if section.upstream["password"] == nil, let known {
      overrides.append(("password", known.text))
    }
    return overrides
  }

  /// What libpq connects to for the reads of a pool. User, database and password are those of the pool, where the upstream
  /// for reads does not name them; it is a standby unless `target_session_attrs` says otherwise.
  func readTarget(
    _ upstream: Conninfo, _ section: DatabaseSettings, database: String, user: String, known: Password? = nil
  ) throws(Upstream.ConninfoError) -> ConnectionTarget {
    var reading = section
    reading.upstream = upstream
    var overrides = overrides(
      reading, isUserFixed: section.upstream["user"] != nil, database: section.upstream["dbname"] ?? database,
      user: user, known: known)
    if upstream["password"] == nil, !overrides.contains(where: { $0.keyword == "password" }),
      let password = section.upstream["password"]
    {
      overrides.append(("password", password))
    }
    if upstream["target_session_attrs"] == nil { overrides.append(("target_session_attrs", "standby")) }
    return try ConnectionTarget(conninfo: upstream.text, overrides: overrides)
  }

  /// Where a client's own name and password are tried at the server, and nothing else.
  func verification(
    _ section: DatabaseSettings, database: String, user: String, password: Password
  ) throws(Upstream.ConninfoError) -> ConnectionTarget {
    var overrides = ServingConfiguration.names(section, database: database, user: user)
    overrides.append(("password", password.text))
    return try ConnectionTarget(conninfo: section.upstream.text, overrides: overrides, isPasswordOnly: true)
  }

  private static func names(
    _ section: DatabaseSettings, database: String, user: String
  ) -> [(keyword: String, value: String)] {
    var overrides: [(keyword: String, value: String)] = [("user", user)]
    if section.upstream["dbname"] == nil { overrides.append(("dbname", database)) }
    return overrides
  }

  private static func passwords(
    _ sources: [String: PasswordSource?], section: String, _ problems: inout [String]
  ) -> [String: String] {
    var passwords: [String: String] = [:]
    for (name, source) in sources.sorted(by: { $0.key < $1.key }) {
      guard let source else { continue }
      do {
        passwords[name] = try source.resolve { unsafe getenv($0).map { unsafe String(cString: $0) } }
      } catch {
        problems.append("[\(section).\(name)] password: \(error.message)")
      }
    }
    return passwords
  }

  private static func isReadableByAll(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IROTH != 0
  }

  private static func describe(_ error: TLSConfigurationError, _ server: ServerSettings) -> String {
    let (key, file) =
      switch error.file {
      case .certificate: ("tls_cert", server.tlsCertificate)
      case .key: ("tls_key", server.tlsKey)
      case .authority: ("tls_ca", server.tlsAuthority)
      }
    return "[server] \(key): \(file ?? ""): \(error.reason)"
  }
}

/// Why settings cannot be served.
public struct ConfigurationError: Error {
  /// One line each, without secrets.
  public let problems: [String]
}

/// Printing or dumping shows no secret.
extension ServingConfiguration: CustomStringConvertible, CustomReflectable {
  public var description: String { "ServingConfiguration" }
  public var customMirror: Mirror { Mirror(self, children: []) }
}

extension AuthSettings {
  /// How clients of databases are asked for a password; nil where they are not.
  var loginMethod: LoginMethod? {
    switch method {
    case .trust, .cert, .hba: nil
    case .password: .password
    case .md5: .md5
    case .scramSHA256: .scramSHA256
    case .upstream: .upstream
    }
  }

  /// How clients of the console are: it has no server that a password could be tried at, so it is checked against
  /// `file`.
  var consoleMethod: LoginMethod {
    guard let loginMethod, loginMethod != .upstream else { return .scramSHA256 }
    return loginMethod
  }
}
