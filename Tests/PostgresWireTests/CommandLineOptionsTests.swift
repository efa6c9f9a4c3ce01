import PostgresWire
import Testing

@Suite("The startup parameter options")
struct CommandLineOptionsTests {
  @Test(
    "settings are found as PostgreSQL finds them",
    arguments: [
      ("", []),
      (" \t\n", []),
      ("-c geqo=off", ["geqo=off"]),
      ("-cgeqo=off", ["geqo=off"]),
      ("--geqo=off", ["geqo=off"]),
      ("  -c  a=1   -c b=2 ", ["a=1", "b=2"]),
      ("--work-mem=64MB", ["work_mem=64MB"]),
      ("-c work-mem=64MB", ["work_mem=64MB"]),
      ("-c a=b=c", ["a=b=c"]),
      ("-c a=", ["a="]),
      ("-c a=-1", ["a=-1"]),
      (#"-c search_path=a,\ b"#, ["search_path=a, b"]),
      (#"-c a=x\\y"#, [#"a=x\y"#]),
      (#"-c a=\x\"#, ["a=x"]),
      (#"-c my.name=\ lead"#, ["my.name= lead"]),
      ("-c a=1 -c a=2", ["a=1", "a=2"]),
      ("-c a=1 --", ["a=1"]),
      ("-c\u{b}a=1\u{c}-c\rb=2", ["a=1", "b=2"]),
      ("-c a=grün", ["a=grün"]),
    ] as [(String, [String])])
  func settings(options: String, expected: [String]) throws {
    let settings = try CommandLineOptions.parse(Array(options.utf8))
    #expect(settings.map { "\($0.name)=\($0.value)" } == expected)
  }

  @Test(
    "anything else is refused by name",
    arguments: [
      ("geqo=off", "invalid command-line argument for server process: geqo=off"),
      ("-", "invalid command-line argument for server process: -"),
      ("-e", "invalid command-line argument for server process: -e"),
      ("-S 64", "invalid command-line argument for server process: -S"),
      ("-c", "invalid command-line argument for server process: -c"),
      ("-c a=1 stray", "invalid command-line argument for server process: stray"),
      ("-- -c a=1", "invalid command-line argument for server process: -c"),
      ("\\", "invalid command-line argument for server process: "),
      ("-c geqo", "-c geqo requires a value"),
      ("-cgeqo", "-c geqo requires a value"),
      ("-c --", "-c -- requires a value"),
      ("--geqo", "--geqo requires a value"),
      ("-c =1", #"unrecognized configuration parameter """#),
      ("--=1", #"unrecognized configuration parameter """#),
    ])
  func refusals(options: String, expected: String) {
    let failure = #expect(throws: CommandLineOptions.Failure.self) {
      try CommandLineOptions.parse(Array(options.utf8))
    }
    #expect(failure?.description == expected)
    #expect(failure?.sqlState == (expected.hasPrefix("unrecognized") ? .undefinedObject : .syntaxError))
  }

  @Test("values keep bytes that are not UTF-8, names must be UTF-8")
  func otherEncodings() throws {
    let settings = try CommandLineOptions.parse(Array("-c a=".utf8) + [0xff])
    #expect(settings[0].value.bytes == [0xff])
    #expect(throws: CommandLineOptions.Failure.self) {
      try CommandLineOptions.parse(Array("-c a".utf8) + [0xff] + Array("=1".utf8))
    }
  }
}
