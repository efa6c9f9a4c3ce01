/// Where a client is found by the process id of its cancel key: node, worker and slot in one positive 32-bit number, so
/// that a CancelRequest that comes in anywhere finds its way. The secret is 32 random bits.
///
/// ```
///   31   30      26 25        20 19                    0
///  | 0 |   node    |   worker   |         slot          |
/// ```
enum CancelKeyLayout {
  static let slotBits = 20
  static let workerBits = 6
  static let nodeBits = 5
  /// Clients that one worker can have.
  static let slotsPerWorker = 1 << slotBits

  static func processID(slot: Int, worker: Int, node: Int) -> UInt32 {
    precondition(slot < slotsPerWorker && worker < 1 << workerBits && node < 1 << nodeBits, "beyond the key's fields")
    return UInt32(node << (slotBits + workerBits) | worker << slotBits | slot)
  }

  static func slot(of processID: UInt32) -> Int { Int(processID) & (slotsPerWorker - 1) }

  /// nil for a number that no client was given.
  static func worker(of processID: UInt32) -> Int? {
    processID >> 31 == 0 ? Int(processID) >> slotBits & (1 << workerBits - 1) : nil
  }
}
