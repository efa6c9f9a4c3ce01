import Pooling

/// The server connections of a worker by token: an array, because the pool machine's slots are dense.
struct ServerSlots {
  private var slots: [Server?] = []

  /// The connection with this token; nil where it is gone or still being opened.
  subscript(token: ServerToken) -> Server? {
    get {
      guard Int(token.index) < slots.count, let server = slots[Int(token.index)], server.token == token else {
        return nil
      }
      return server
    }
    set {
      while slots.count <= Int(token.index) { slots.append(nil) }
      slots[Int(token.index)] = newValue
    }
  }

  var all: [Server] { slots.compactMap { $0 } }
}
