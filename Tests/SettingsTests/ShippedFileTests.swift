import Foundation
import Settings
import Testing

/// etc/lifeguard.toml, which documents every key.
@Suite("The shipped settings file")
struct ShippedFileTests {
  static let path =
    #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
    + "/etc/lifeguard.toml"
  let text: String
  let shipped: Settings

  init() throws {
    shipped = try Settings.load(path: Self.path)
    text = try String(contentsOfFile: Self.path, encoding: .utf8)
  }

  /// The text with every commented key line made a real one.
  private var uncommented: String {
    text.split(separator: "\n", omittingEmptySubsequences: false)
      .map { line in line.first == "#" && Self.key(of: line) != nil ? line.dropFirst() : line }
      .joined(separator: "\n")
  }

  @Test("parses cleanly as shipped")
  func parses() throws {
    #expect(shipped.warnings.isEmpty)
    #expect(shipped.database(named: "app")?.upstream["dbname"] == "app")
  }

  @Test("mentions every key in its section")
  func mentionsEveryKey() throws {
    var mentioned: Set<String> = []
    var section = ""
    for line in text.split(separator: "\n") {
      if line.first == "[" { section = String(line.dropFirst().prefix { $0 != "]" }) }
      if let key = Self.key(of: line) { mentioned.insert("\(section).\(key)") }
    }
    let shown = Set(shipped.effective().map { "\($0.section).\($0.key)" })
    let unset = [
      "databases.app.read_upstream", "databases.app.max_connections", "users.reporting.max_connections",
      "databases.app.password", "users.reporting.password",
    ]
    #expect(mentioned == shown.union(unset))
  }

  @Test("shows the defaults in its commented lines")
  func defaults() throws {
    #expect(uncommented != text)
    let whole = try Settings.parse(text: uncommented, file: "lifeguard.toml")
    #expect(whole.warnings.isEmpty)
    #expect(whole.effectiveText() == shipped.effectiveText())
    #expect(whole.differences(from: shipped).isEmpty)
  }

  @Test("damaged in any way, is accepted or refused with problems in it", arguments: [1, 2, 3] as [UInt64])
  func damaged(seed: UInt64) {
    var random = SplitMix(state: seed)
    let bytes = Array(uncommented.utf8)
    for _ in 0..<300 {
      var damaged = bytes
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let place = Int.random(in: 0..<damaged.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: damaged[place] = UInt8.random(in: 0...127, using: &random)
        case 1: damaged.removeSubrange(place..<min(place + 5, damaged.count))
        default: damaged.insert(contentsOf: damaged[place..<min(place + 9, damaged.count)], at: place)
        }
      }
      do {
        _ = try Settings.parse(text: String(decoding: damaged, as: UTF8.self), file: "lifeguard.toml")
      } catch {
        #expect(error.problems.allSatisfy { !$0.message.isEmpty })
      }
    }
  }

  /// Steele, Lea and Flood's generator: small, and the same numbers for the same seed.
  private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
  }

  /// The key of `key = …` or `#key = …`; prose has a space behind its `#`.
  private static func key(of line: Substring) -> String? {
    let line = line.first == "#" ? line.dropFirst() : line
    let key = line.prefix { $0.isLowercase || $0 == "_" }
    return !key.isEmpty && line.dropFirst(key.count).hasPrefix(" = ") ? String(key) : nil
  }
}
