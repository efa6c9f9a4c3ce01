import Pooling
import PostgresWire
import Testing

@testable import Proxy

@Suite("Startup packets that have come before")
struct ClientStartupsTests {
  private func packet(_ user: String, _ value: String = "") -> [UInt8] {
    var writer = MessageWriter()
    writer.startup(
      StartupMessage(
        user: WireText(user), parameters: [StartupParameter(name: "application_name", value: WireText(value))]))
    return writer.bytes
  }

  private func startup(_ packet: [UInt8]) throws -> ClientStartup {
    guard case .startup(let message) = try InitialPacket(body: packet.span.extracting(4...)) else {
      preconditionFailure("not a StartupMessage")
    }
    return try #require(ClientStartup(message))
  }

  @Test("the same bytes are not read again, and any others are")
  func sameBytes() throws {
    var startups = ClientStartups()
    let one = packet("app", "one")
    var found = startups[one.span]
    #expect(found == nil)
    let read = try startup(one)
    startups.remember(one.span, read)
    found = startups[one.span]
    #expect(found === read)
    #expect(read.name.user == "app" && read.name.database == "app")
    #expect(try read.settings.get().all == [SessionSetting(name: "application_name", value: "one")])
    for index in one.indices {
      var other = one
      other[index] ^= 1
      found = startups[other.span]
      #expect(found == nil)
    }
    found = startups[one.span.extracting(..<(one.count - 1))]
    #expect(found == nil)
  }

  @Test("there are at most so many, and no long ones")
  func bounds() throws {
    var startups = ClientStartups()
    let packets = (0...ClientStartups.most).map { packet("user\($0)") }
    for packet in packets { startups.remember(packet.span, try startup(packet)) }
    let kept = packets.count { startups[$0.span] != nil }
    #expect(kept == 1)
    let last = packets[ClientStartups.most]
    let found = startups[last.span]
    #expect(found?.name.user == "user\(ClientStartups.most)")
    let long = packet("app", String(repeating: "x", count: ClientStartups.longest))
    startups.remember(long.span, try startup(long))
    let none = startups[long.span]
    #expect(none == nil)
  }

  @Test("what is wrong with options is found each time")
  func refusedOptions() throws {
    var message = StartupMessage(user: "app")
    message.options = "-c"
    let startup = try #require(ClientStartup(message))
    #expect(throws: CommandLineOptions.Failure.self) { try startup.settings.get() }
    message.user = WireText([0xff])
    #expect(ClientStartup(message) == nil)
  }
}
