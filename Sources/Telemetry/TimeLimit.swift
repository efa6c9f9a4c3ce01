/// What a client or its transaction may take no longer than, as settings and metrics call it.
public enum TimeLimit: String, CaseIterable, Sendable {
  /// One statement, from the moment at which it has a server connection.
  case query = "query_timeout"
  /// One transaction: a block, or a statement outside of any.
  case transaction = "transaction_timeout"
  /// Silence inside of a transaction block.
  case idleTransaction = "idle_transaction_timeout"
  /// Silence outside of any transaction.
  case clientIdle = "client_idle_timeout"
}
