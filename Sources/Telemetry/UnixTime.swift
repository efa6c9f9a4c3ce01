/// A moment of the wall clock, as workers hand it to the control plane.
public struct UnixTime: Sendable, Hashable, Comparable {
  /// Microseconds since 1970-01-01 00:00:00 UTC.
  public var microseconds: Int64

  /// A moment so many microseconds after the epoch.
  public init(microseconds: Int64) {
    self.microseconds = microseconds
  }

  /// The earlier one is the smaller one.
  public static func < (left: UnixTime, right: UnixTime) -> Bool { left.microseconds < right.microseconds }
}

extension UnixTime: CustomStringConvertible {
  /// In PgBouncer's form, to the second, such as `2026-11-25 18:12:07 UTC`.
  public var description: String {
    let seconds = microseconds.flooredDivision(by: 1_000_000)
    let days = seconds.flooredDivision(by: 86_400)
    let secondOfDay = seconds - days * 86_400
    let date = Self.civilDate(daysSinceEpoch: days)
    let clock = [secondOfDay / 3_600, secondOfDay / 60 % 60, secondOfDay % 60].map(Self.twoDigits)
    return "\(date.year)-\(Self.twoDigits(date.month))-\(Self.twoDigits(date.day)) "
      + clock.joined(separator: ":") + " UTC"
  }

  /// The date in the Gregorian calendar. Years are counted from March on, so that leap days come last, in eras of 400
  /// years, which are all equally long (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
  /// civil_from_days).
  private static func civilDate(daysSinceEpoch: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let days = daysSinceEpoch + 719_468
    let era = days.flooredDivision(by: 146_097)
    let dayOfEra = days - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
  }

  private static func twoDigits(_ number: Int64) -> String {
    number < 10 ? "0\(number)" : "\(number)"
  }
}

extension Int64 {
  fileprivate func flooredDivision(by divisor: Int64) -> Int64 {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? quotient - 1 : quotient
  }
}
