import Admin
import Testing

@Suite struct AdminCommandTests {
  @Test(arguments: ShowSubject.allCases)
  func showIsReadInAnyLetterCase(subject: ShowSubject) throws {
    let name = subject.rawValue
    for text in [
      "show \(name)", "SHOW \(name.uppercased());", "  Show\n\(name.prefix(2).uppercased() + name.dropFirst(2)) ;; ",
    ] {
      #expect(try AdminCommand.parse(text) == .show(subject))
    }
  }

  @Test func commentsAreBlanks() throws {
    #expect(try AdminCommand.parse("/* a /* nested */ one */ show--x\npools -- all of them") == .show(.pools))
  }

  @Test(arguments: ["", " ; ", "-- ping", "/* nothing */"])
  func nothingAtAllIsEmpty(text: String) throws {
    #expect(try AdminCommand.parse(text) == .empty)
  }

  @Test func changingCommandsSaySo() throws {
    let changing = [
      ("RELOAD", AdminCommand.reload), ("PAUSE", .pause(database: nil)), ("pause App;", .pause(database: "App")),
      ("resume \"two words\"", .resume(database: "two words")), ("DISABLE app", .disable(database: "app")),
      ("enable app", .enable(database: "app")), ("Reconnect", .reconnect(database: nil)),
      ("kill app", .kill(database: "app")), ("KILL_CLIENT 26", .killClient(26)), ("kill_client '27'", .killClient(27)),
      ("SET pool.pool_size = 7", .set(key: "pool.pool_size", value: "7")),
      ("set log.level to 'debug'", .set(key: "log.level", value: "debug")),
      ("SET databases.\"my app\".pool_timeout = 1.5", .set(key: "databases.my app.pool_timeout", value: "1.5")),
      ("shutdown;", .shutdown(.immediate)),
      ("SHUTDOWN wait_for_servers", .shutdown(.waitForServers)),
      ("SHUTDOWN WAIT_FOR_CLIENTS", .shutdown(.waitForClients)),
    ]
    for (text, expected) in changing {
      let command = try AdminCommand.parse(text)
      #expect(command == expected)
      #expect(command.changes)
    }
    for text in ["SHOW POOLS", "RELOAD DRY RUN", "WAIT_CLOSE", "WAIT_CLOSE app"] {
      #expect(try !AdminCommand.parse(text).changes)
    }
  }

  @Test(arguments: [
    ("BEGIN", "BEGIN"), ("start transaction read only", "START TRANSACTION"), ("ROLLBACK;", "ROLLBACK"),
    ("SAVEPOINT pg_psql_temporary_savepoint", "SAVEPOINT"), ("set client_encoding to 'UTF8'", "SET"),
    ("SET SESSION application_name = \"x\"", "SET"), ("SET extra_float_digits = 3", "SET"),
    ("DISCARD ALL", "DISCARD ALL"),
  ])
  func whatClientsSendOfTheirOwnAccordSucceeds(text: String, tag: String) throws {
    let command = try AdminCommand.parse(text)
    #expect(command == .noEffect(tag: tag))
    #expect(!command.changes)
  }

  @Test(arguments: [("suspend", "SUSPEND", "PAUSE"), ("show fds", "SHOW FDS", "SHOW SOCKETS")])
  func whatThereIsInsteadOfPgBouncersOtherCommandsIsSaid(text: String, named: String, instead: String) {
    do {
      let command = try AdminCommand.parse(text)
      Issue.record("\(command) was read")
    } catch {
      #expect(error.sqlState == "0A000" && error.message == "Lifeguard has no \(named)")
      #expect(error.hint?.contains(instead) == true)
    }
  }

  @Test(arguments: [
    "select 1", "show", "show pool", "show 'pools'", "show pools now", "reload all", "shutdown gently",
    "shutdown wait_for_servers now", "\"show\" pools", "show pools; show state", "show 'pools", "/* show pools", "*",
    "set", "set pool_size", "set = 3", "set pool_size =", "pause app now", "pause ;app", "disable", "enable *",
    "kill *",
    "kill_client", "kill_client x", "kill_client 1 2", "reload dry", "reload dry run now", "\u{0}",
    "show " + String(repeating: "x", count: 10_000),
  ])
  func nonsenseIsASyntaxErrorThatPointsToHelp(text: String) {
    do {
      let command = try AdminCommand.parse(text)
      Issue.record("\(command) was read")
    } catch {
      #expect(error.sqlState == "42601")
      #expect(error.message.hasPrefix("syntax error: "))
      #expect(error.message.count < 200)
      #expect(error.hint?.contains("SHOW HELP") == true)
    }
  }
}

@Suite struct AdminPrivilegeTests {
  @Test func underTrustEverybodyMayLookAndNobodyMayChange() {
    for user in ["postgres", "stranger"] {
      let privilege = AdminPrivilege.onConsole(user: user, isProven: false, users: ["postgres"], statsUsers: [])
      #expect(privilege == .show)
    }
  }

  @Test func provenUsersMayWhatTheSettingsSay() {
    let privilege = {
      AdminPrivilege.onConsole(user: $0, isProven: true, users: ["boss"], statsUsers: ["boss", "eye"])
    }
    #expect(privilege("boss") == .change)
    #expect(privilege("eye") == .show)
    #expect(privilege("app") == .none)
  }

  @Test func theSocketIsForRootAndTheDaemonsUser() {
    #expect(AdminPrivilege.onSocket(peerUserID: 0, daemonUserID: 107) == .change)
    #expect(AdminPrivilege.onSocket(peerUserID: 107, daemonUserID: 107) == .change)
    #expect(AdminPrivilege.onSocket(peerUserID: 1_000, daemonUserID: 107) == .show)
  }

  @Test func whatIsNotAllowedIsInsufficientPrivilege() throws {
    try AdminPrivilege.change.check(.reload)
    try AdminPrivilege.show.check(.show(.pools))
    let refusals: [(AdminPrivilege, AdminCommand)] = [
      (.show, .reload), (.show, .shutdown(.immediate)), (.none, .show(.version)), (.none, .reload),
    ]
    for (privilege, command) in refusals {
      do {
        try privilege.check(command)
        Issue.record("\(privilege) allowed \(command)")
      } catch {
        #expect(error.sqlState == "42501")
        #expect(error.hint != nil)
      }
    }
  }
}
