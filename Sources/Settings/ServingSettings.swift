extension Settings {
  /// Settings without any file, for `serve --upstream CONNINFO --listen ADDR`: one database, named by the upstream's
  /// dbname, or any name where it has none; trust; everything else as by default.
  ///
  /// Problems name the option instead of a file. An empty `listen` means the default address.
  public static func serving(upstream: String, listen: [String]) throws(SettingsError) -> Settings {
    var settings = Settings()
    var problems: [Problem] = []
    func add(_ option: String, _ message: String, suggestion: String? = nil) {
      problems.append(Problem(file: option, section: "", key: "", message: message, suggestion: suggestion))
    }

    do {
      let conninfo = try ValueFormat<Conninfo>.upstream.read(TOMLValue(content: .string(upstream)))
      let name = conninfo["dbname"] ?? "*"
      if reservedDatabases.contains(name) {
        add("--upstream", "names the database \(name), but clients reach the admin console by that name")
      }
      if conninfo["password"] != nil {
        add(
          "--upstream",
          "contains a password, which under trust would serve anybody who reaches the daemon; that needs --auth, which "
            + "is not supported yet (a settings file, .pgpass or a service file may hold the password)")
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
        } else if !address.isLocal {
          add(
            "--listen",
            "without a settings file clients are trusted, and that would let anybody who reaches \(address) be any "
              + "user; listen on loopback or a Unix socket")
        }
        addresses.append(address)
      } catch {
        add("--listen", "\(quoted(text, limit: 120)) \(error.reason)", suggestion: error.suggestion)
      }
    }
    if !addresses.isEmpty { settings.server.listen = addresses }

    if !problems.isEmpty { throw SettingsError(problems) }
    return settings
  }
}
