/// What one worker says of itself. The worker writes; anybody may read at any time.
public final class WorkerTelemetry: Sendable {
  /// Connected clients, those that are logging in among them.
  public let clients = Gauge()
  /// Clients that are logging in.
  public let loginClients = Gauge()

  /// Starts with zeros.
  public init() {}
}
