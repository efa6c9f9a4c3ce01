extension Settings {
  /// Settings without any file, for `serve --upstream CONNINFO --listen ADDR`: one database, named by the upstream's
  /// dbname, or any name where it has none; everything else as by default.
  ///
  /// Problems name the option instead of a file. An empty `listen` means the default address.
  ///
  /// - Parameters:
  ///   - method: how clients prove who they are, as in `[auth] method`; trust where it is nil.
  ///   - file: users and their secrets.
  public static func serving(
    upstream: String, listen: [String], method: String? = nil, file: String? = nil
  ) throws(SettingsError) -> Settings {
    var settings = Settings()
    var problems: [Problem] = []
    func add(_ option: String, _ message: String, suggestion: String? = nil) {
      problems.append(Problem(file: option, section: "", key: "", message: message, suggestion: suggestion))
    }

    settings.auth.file = file
    if let method {
      let words: [AuthMethod] = [.trust, .password, .md5, .scramSHA256, .upstream]
      if let chosen = AuthMethod(rawValue: method), words.contains(chosen) {
        settings.auth.method = chosen
        if [.password, .md5, .scramSHA256].contains(chosen) && file == nil {
          add("--auth", "\(chosen.rawValue) needs --userlist: the users and their secrets")
        }
      } else {
        add(
          "--auth", "must be \(alternatives(words.map(\.rawValue))), not \(quoted(method, limit: 40))",
          suggestion: Suggestions.nearest(to: method, among: words.map(\.rawValue)))
      }
    }
    let isTrusting = settings.auth.method == .trust

    do {
      let conninfo = try ValueFormat<Conninfo>.upstream.read(TOMLValue(content: .string(upstream)))
      let name = conninfo["dbname"] ?? "*"
      if reservedDatabases.contains(name) {
        add("--upstream", "names the database \(name), but clients reach the admin console by that name")
      }
      if conninfo["password"] != nil && method == nil {
        add(
          "--upstream",
          "contains a password, which would serve anybody who reaches the daemon; say by --auth how clients prove who "
            + "they are")
      }
      settings.databases[name] = DatabaseSettings(name: name, upstream: conninfo)
    } catch {
      add("--upstream", error.message, suggestion: error.suggestion)
    }

    var addresses: [ListenAddress] = []
    for text in listen {
      do {
        let address = try ListenAddress.parse(text)
        if addresses.contains(address) {
          add("--listen", "\(address) is given twice")
        } else if !address.isLocal && isTrusting {
          add(
            "--listen",
            "clients are trusted, and that would let anybody who reaches \(address) be any user; listen on loopback or "
              + "a Unix socket, or say by --auth how clients prove who they are")
        }
        addresses.append(address)
      } catch {
        add("--listen", "\(quoted(text, limit: 120)) \(error.reason)", suggestion: error.suggestion)
      }
    }
    if !addresses.isEmpty { settings.server.listen = addresses }
    // Without a file there is no TLS for clients, so there is no tls_mode that would spare this.
    if [.password, .upstream].contains(settings.auth.method), let listener = addresses.first(where: { !$0.isLocal }) {
      settings.warnings.append(
        Problem(
          file: "--auth", section: "", key: "",
          message:
            "\(settings.auth.method.rawValue) lets passwords cross the network in clear (\(listener)); a settings "
            + "file can set [server] tls_mode = \"require\""))
    }

    if !problems.isEmpty { throw SettingsError(problems) }
    return settings
  }
}
