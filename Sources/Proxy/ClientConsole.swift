import PostgresWire
import Reactor

/// The admin console as a client sees it: `psql -p 6432 lifeguard`. Commands go to the control plane and come back as
/// rows; a client has one under way at a time.
extension Client {
  private static let commandLimit = 64 * 1024

  /// What psql and drivers want to know before the first command.
  func welcomeToConsole() {
    send {
      $0.authenticationOk()
      for (name, value) in [
        ("server_version", worker.environment.consoleVersion), ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"), ("DateStyle", "ISO, MDY"), ("TimeZone", "UTC"), ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"), ("is_superuser", "off"), ("session_authorization", user),
        ("application_name", ""),
      ] {
        $0.parameterStatus(name: WireText(name), value: WireText(value))
      }
      $0.backendKeyData(CancelKey(processID: 0, secret: cancelSecret))
      $0.readyForQuery(.idle)
    }
  }

  /// One message of a console client. Returns whether to go on.
  func consoleStep(_ bytes: Span<UInt8>, _ cursor: inout Int) -> Bool {
    if awaitsConsole || cursor == bytes.count { return false }
    guard let type = FrontendType(rawValue: bytes[cursor]) else {
      protocolViolation(bytes[cursor])
      return false
    }
    guard bytes.count - cursor >= MessageHeader.size else { return false }
    guard let header = MessageHeader(bytes, at: cursor), header.bodyLength <= Client.commandLimit else {
      protocolViolation(type.rawValue)
      return false
    }
    guard bytes.count - cursor >= header.totalLength else { return false }
    let body = bytes.extracting(cursor + MessageHeader.size..<cursor + header.totalLength)
    cursor += header.totalLength
    switch type {
    case .query:
      guard let query = try? Frontend.Query(body: body) else {
        protocolViolation(type.rawValue)
        return false
      }
      awaitsConsole = true
      worker.environment.console(WireText(body, query.text).text, user, worker.mailbox, token)
    case .terminate:
      worker.clientGone(self, .endOfStream)
      return false
    case .sync:
      consoleSkips = false
      send { $0.readyForQuery(.idle) }
    case .flush, .copyData, .copyDone, .copyFail: break
    case .parse, .bind, .describe, .execute, .close, .functionCall, .password:
      if !consoleSkips {
        consoleSkips = true
        send {
          $0.errorResponse(
            ErrorFields(
              .error, .featureNotSupported, "the console takes simple queries only",
              hint: "With psycopg use a client-side binding cursor; with asyncpg use execute() without arguments."))
        }
      }
    }
    return true
  }

  /// The control plane has carried out a command.
  func consoleReplied(_ reply: ConsoleReply) {
    awaitsConsole = false
    send { writer in
      switch reply {
      case .rows(let columns, let rows, let tag):
        writer.rowDescription(
          columns.map {
            (WireText($0.name), Backend.ColumnAttributes(typeID: $0.typeID, typeSize: $0.typeSize))
          })
        for row in rows { writer.dataRow(row.map { value in value.map { Array($0.utf8) } }) }
        writer.commandComplete(WireText(tag))
      case .done(let tag): writer.commandComplete(WireText(tag))
      case .empty: writer.emptyQueryResponse()
      case .failed(let code, let message, let hint):
        writer.errorResponse(
          ErrorFields(
            .error, SQLState(code) ?? .internalError, WireText(message), hint: hint.map { WireText($0) }))
      }
      writer.readyForQuery(.idle)
    }
    worker.resume(self)
  }
}
