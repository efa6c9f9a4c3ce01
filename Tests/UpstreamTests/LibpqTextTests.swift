import Testing

@testable import Upstream

@Suite struct LibpqTextTests {
  @Test func theCodeIsTakenOutOfTheText() {
    let (text, sqlState) = LibpqText.split(
      "connection to server at \"::1\", port 5432 failed: FATAL:  28P01: password authentication failed\n"
        + "DETAIL:  more\nLOCATION:  auth_failed, auth.c:335\n")
    #expect(sqlState == "28P01")
    #expect(
      text == "connection to server at \"::1\", port 5432 failed: FATAL:  password authentication failed DETAIL:  more")
  }

  @Test(arguments: ["", ":", "a:  28P0", ":  28P01: ", "x:  2ap01: y", "timeout expired"])
  func textsWithoutACodeHaveNone(_ message: String) {
    #expect(LibpqText.split(message).sqlState == (message == ":  28P01: " ? "28P01" : nil))
  }

  @Test func linesAreJoinedCleanedAndCut() {
    #expect(LibpqText.oneLine("a\n\tb\n\nc\u{1b}[1m\r\nd\n") == "a b c [1m d")
    #expect(LibpqText.oneLine(String(repeating: "x", count: 5000)).count == LibpqText.characterLimit + 1)
  }

  @Test func quotedPiecesAreDropped() {
    #expect(
      LibpqText.droppingQuoted("server at \"SSL\", port 1 failed: \"x\" gone")
        == "server at \"\", port 1 failed: \"\" gone")
    #expect(LibpqText.droppingQuoted("nothing") == "nothing")
  }

  @Test func quotedPiecesAreMasked() {
    #expect(LibpqText.maskingQuoted("missing \"=\" after \"ret\" in string") == "missing \"***\" in string")
    #expect(LibpqText.maskingQuoted("looking for \"]\" here") == "looking for \"]\" here")
    #expect(LibpqText.maskingQuoted("in \"a\"b\" end") == "in \"***\" end")
    #expect(LibpqText.maskingQuoted("nothing") == "nothing")
  }

  /// A server that goes down in the middle of a handshake has said nothing about how TLS is to be had.
  @Test(arguments: [
    ("SSL connection has been closed unexpectedly", false), ("SSL SYSCALL error: EOF detected", false),
    ("SSL error: unexpected eof while reading", false), ("SSL error: certificate verify failed", true),
    ("server does not support SSL, but SSL was required", true), ("Connection refused", false),
  ])
  func anEndAmidTLSIsNotAboutTLS(text: String, isAboutTLS: Bool) {
    #expect(LibpqExchange.isAboutTLS("connection to server at \"db1\", port 5432 failed: \(text)\n") == isAboutTLS)
  }
}
