internal import COpenSSL

/// A secret text. It is shown by nothing: not by printing, not by dumping, not in a longer text.
public struct Password: Sendable {
  /// The secret.
  public let text: String

  /// The most bytes that are taken for a password (PgBouncer's limit is 2,048, libpq's users stay far below): hashing
  /// takes time in proportion, and whoever is not known yet must not get much of it.
  public static let longest = 1024

  /// A secret of this text.
  public init(_ text: String) {
    self.text = text
  }

  /// Compares in a time that depends on the lengths only.
  public func isSame(as other: Password) -> Bool { Bytes.areSame(Array(text.utf8), Array(other.text.utf8)) }
}

extension Password: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String { "Password(…)" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Bytes that are secret.
enum Bytes {
  /// Compares in a time that depends on the lengths only.
  static func areSame(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    guard left.count == right.count else { return false }
    // An empty array may have no address.
    if left.isEmpty { return true }
    return unsafe left.withUnsafeBytes { left in
      unsafe right.withUnsafeBytes { right in
        unsafe CRYPTO_memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0
      }
    }
  }
}
