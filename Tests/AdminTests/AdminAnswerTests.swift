import Admin
import Testing

@Suite struct AdminAnswerTests {
  @Test func errorsAreToldApartFromEverythingElse() {
    let error = AdminAnswer.failed(AdminError(sqlState: "42601", message: "no \"x\"", hint: "try y"))
    #expect(error.text == "ERROR:  no \"x\"\nHINT:  try y\n")
    #expect(
      error.json == #"{"error": {"sqlstate": "42601", "message": "no \"x\"", "hint": "try y"}}"# + "\n")
    #expect(error.text.hasPrefix(AdminAnswer.errorPrefix) && error.json.hasPrefix(AdminAnswer.jsonErrorPrefix))
    for answer in [AdminAnswer.done(tag: "PAUSE"), .empty] {
      #expect(!answer.text.hasPrefix(AdminAnswer.errorPrefix) && !answer.json.hasPrefix(AdminAnswer.jsonErrorPrefix))
    }
  }

  @Test func commandsWithoutRowsAnswerWithTheirTag() {
    #expect(AdminAnswer.done(tag: "PAUSE").text == "PAUSE\n")
    #expect(AdminAnswer.done(tag: "PAUSE").json == "{\"command\": \"PAUSE\"}\n")
  }

  @Test(arguments: [
    ("SHOW POOLS", "SHOW POOLS", false), ("json SHOW POOLS", "SHOW POOLS", true),
    ("  JSON\tshow state", "show state", true),
    ("jsonish", "jsonish", false), ("", "", false),
  ])
  func aLineIsACommandWithJSONAheadOfIt(line: String, command: String, wantsJSON: Bool) {
    #expect(AdminRequest(line: line) == AdminRequest(command: command, wantsJSON: wantsJSON))
  }

  @Test func aRequestIsOneLineWhateverIsInIt() {
    let request = AdminRequest(command: "SHOW\r\nPOOLS\n", wantsJSON: true)
    #expect(request.line == "json SHOW POOLS \n")
    #expect(AdminRequest(line: String(request.line.dropLast())).wantsJSON)
  }
}
