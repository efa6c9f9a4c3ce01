internal import Glibc
internal import NIOCore
public import Settings

/// The status server cannot listen.
public struct StatusServerError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Where it was to listen.
  public let address: ListenAddress
  /// Why it cannot.
  public let reason: String

  init(_ address: ListenAddress, _ error: any Error) {
    self.address = address
    reason =
      switch (error as? IOError)?.errnoCode {
      case EADDRINUSE: "the address is already in use"
      case EADDRNOTAVAIL, EAFNOSUPPORT: "this machine has no such address"
      case EACCES, EPERM: "permission denied"
      case ENOENT: "the directory does not exist"
      default: "\(error)"
      }
  }

  /// Names the address, the reason and the setting to change.
  public var description: String {
    "cannot serve HTTP on \(address): \(reason) (setting: [http] listen; \"off\" serves no HTTP)"
  }
}
