import Foundation
import Testing

@testable import Upstream

/// A value that another thread delivers once.
final class Delivery<Value: Sendable>: Sendable {
  private let monitor = Monitor<[Value]>([])

  func deliver(_ value: Value) { monitor.update { $0.append(value) } }

  /// The first value, or a test failure after `seconds`.
  func value(within seconds: Double = 20, _ location: SourceLocation = #_sourceLocation) throws -> Value {
    let value = monitor.await(until: deadline(in: seconds)) { values, _ in values.first }
    return try #require(value, "nothing came within \(seconds) s", sourceLocation: location)
  }

  var count: Int { monitor.update { $0.count } }
}

/// A moment on the clock of the dialers.
func deadline(in seconds: Double) -> Int64 { Clock.now() + Int64(seconds * 1e9) }

/// Seconds that `body` takes.
func seconds(_ body: () throws -> Void) rethrows -> Double {
  let start = Clock.now()
  try body()
  return Double(Clock.now() - start) / 1e9
}

typealias DialResult = Result<ServerLink, DialFailure>

/// One dial on threads of its own.
func dial(_ conninfo: String, within limit: Double = 20) throws -> DialResult {
  try dial(try ConnectionTarget(conninfo: conninfo), within: limit)
}

/// The same to a target.
func dial(_ target: ConnectionTarget, within limit: Double = 20) throws -> DialResult {
  let dialers = Dialers()
  defer { dialers.stop() }
  let result = Delivery<DialResult>()
  dialers.dial(target, deadline: deadline(in: limit)) { result.deliver($0) }
  return try result.value(within: limit + 20)
}

/// The failure of one dial.
func failure(_ conninfo: String, within limit: Double = 20) throws -> DialFailure {
  switch try dial(conninfo, within: limit) {
  case .failure(let failure): return failure
  case .success(let link):
    link.finish()
    throw UnexpectedSuccess()
  }
}

struct UnexpectedSuccess: Error {}
