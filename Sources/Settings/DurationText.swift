/// Times as people write them in settings: `30`, `0.25`, `"250ms"`, `"30s"`, `"1h"`.
enum DurationText {
  /// Longer than anything that makes sense, short enough that no arithmetic on deadlines overflows.
  static let longest: Duration = .seconds(10 * 365 * 86_400)

  static let units: [(name: String, microseconds: Double)] = [
    ("us", 1), ("ms", 1_000), ("s", 1_000_000), ("min", 60_000_000), ("m", 60_000_000),
    ("h", 3_600_000_000), ("d", 86_400_000_000),
  ]

  enum Reading: Equatable {
    case off
    case time(Duration)
    case negative
    case tooLong
    /// Above zero, but less than the microsecond in which times are kept.
    case tooShort
    case noUnit
    case unknownUnit(String)
    case notATime
  }

  /// A plain number is seconds; -1 switches off.
  static func read(seconds: Double) -> Reading {
    seconds == -1 ? .off : read(microseconds: seconds * 1_000_000)
  }

  /// A number directly followed by its unit, or `off`.
  static func read(_ text: String) -> Reading {
    if text == "off" || text == "-1" { return .off }
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == "." || $0 == "-" || $0 == "+") }
    let unit = text.dropFirst(number.count).drop { $0 == " " }
    guard let value = Double(number) else { return .notATime }
    if unit.isEmpty { return value == 0 ? .time(.zero) : .noUnit }
    guard let factor = units.first(where: { $0.name == unit })?.microseconds else { return .unknownUnit(String(unit)) }
    return read(microseconds: value * factor)
  }

  private static func read(microseconds: Double) -> Reading {
    guard microseconds.isFinite else { return .tooLong }
    if microseconds < 0 { return .negative }
    let rounded = microseconds.rounded()
    if rounded == 0, microseconds > 0 { return .tooShort }
    guard rounded <= Double(longest.components.seconds) * 1_000_000 else { return .tooLong }
    return .time(.microseconds(Int64(rounded)))
  }

  /// In the largest unit in which it is a whole number; what is shorter than a microsecond is dropped.
  static func write(_ duration: Duration) -> String {
    let (seconds, attoseconds) = duration.components
    let microseconds = Int(seconds * 1_000_000 + attoseconds / 1_000_000_000_000)
    if microseconds == 0 { return "0s" }
    for (unit, factor) in [("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000)]
    where microseconds % factor == 0 {
      return "\(microseconds / factor)\(unit)"
    }
    return microseconds % 1_000 == 0 ? "\(microseconds / 1_000)ms" : "\(microseconds)us"
  }
}

extension Duration {
  /// As it is written in settings, such as `250ms`.
  public var settingText: String { DurationText.write(self) }
}
