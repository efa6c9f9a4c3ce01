import PostgresWire
import Synchronization

/// The numbers of client or server connections: they rise for as long as the daemon lives and none is given twice, so that
/// a log line, a row of SHOW and the DETAIL of an error can be put together. (A cancel key's process id cannot do that: its
/// slot is reused.)
final class ConnectionNumbers: Sendable {
  private let last = Atomic<Int64>(0)

  /// The next number; 1 is the first. Any thread.
  func next() -> Int64 { last.wrappingAdd(1, ordering: .relaxed).newValue }
}

extension ErrorFields {
  /// The same error, with the number of the client connection that it goes to as the last line of its DETAIL.
  func naming(client: Int64) -> ErrorFields {
    let note = "Client connection \(client)."
    var named = self
    if let index = named.fields.firstIndex(where: { $0.kind == .detail }) {
      named.fields[index].text.bytes += Array("\n\(note)".utf8)
    } else {
      let place = named.fields.firstIndex { $0.kind == .hint } ?? named.fields.endIndex
      named.fields.insert(Field(.detail, WireText(note)), at: place)
    }
    return named
  }
}
