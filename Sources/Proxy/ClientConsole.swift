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
      $0.backendKeyData(cancelKey)
      $0.readyForQuery(.idle)
    }
  }

  /// A console command is being carried out for it.
  var isRunningCommand: Bool { phase == .console && console.running != nil }

  /// One message of a console client. Returns whether to go on.
  func consoleStep(_ bytes: Span<UInt8>, _ cursor: inout Int) -> Bool {
    if console.running != nil || cursor == bytes.count { return false }
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
    return consoleMessage(type, body)
  }

  private func consoleMessage(_ type: FrontendType, _ body: Span<UInt8>) -> Bool {
    switch type {
    case .terminate:
      worker.clientGone(self, .endOfStream)
      return false
    case .sync:
      console.skipsUntilSync = false
      send { $0.readyForQuery(.idle) }
      return true
    case .flush, .copyData, .copyDone, .copyFail: return true
    case .query, .parse, .bind, .describe, .execute, .close, .functionCall, .password: break
    }
    if console.skipsUntilSync { return true }
    do throws(WireError) {
      try consoleRequest(type, body)
    } catch {
      refuseOnConsole(ErrorFields(.error, error.sqlState, WireText("\(error)")))
    }
    return true
  }

  private func consoleRequest(_ type: FrontendType, _ body: Span<UInt8>) throws(WireError) {
    switch type {
    case .query:
      let query = try Frontend.Query(body: body)
      runOnConsole(WireText(body, query.text), for: .query)
    case .parse:
      let parse = try Frontend.Parse(body: body)
      guard console.statements.count < ConsoleSession.kept else {
        return refuseOnConsole(ErrorFields(.error, .programLimitExceeded, "too many prepared statements"))
      }
      console.statements[WireText(body, parse.statement)] = WireText(body, parse.text)
      send { $0.parseComplete() }
    case .bind:
      let bind = try Frontend.Bind(body: body)
      guard let text = console.statements[WireText(body, bind.statement)] else { return refuseUnknownStatement() }
      guard bind.parameterCount == 0 else {
        return refuseOnConsole(ErrorFields(.error, .featureNotSupported, "console commands have no parameters"))
      }
      console.portals = [WireText(body, bind.portal): ConsoleSession.Portal(text: text)]
      send { $0.bindComplete() }
    case .describe:
      let describe = try Frontend.Describe(body: body)
      let name = WireText(body, describe.name)
      let isStatement = describe.target == .statement
      guard let text = isStatement ? console.statements[name] : console.portals[name]?.text else {
        return refuseUnknownStatement()
      }
      if isStatement { send { $0.parameterDescription([]) } }
      runOnConsole(text, for: .describe(portal: isStatement ? nil : name))
    case .execute:
      let execute = try Frontend.Execute(body: body)
      guard let portal = console.portals[WireText(body, execute.portal)] else { return refuseUnknownStatement() }
      if let reply = portal.described {
        send { $0.consoleRows(reply) }
      } else {
        runOnConsole(portal.text, for: .execute)
      }
    case .close:
      let close = try Frontend.Close(body: body)
      let name = WireText(body, close.name)
      if close.target == .statement { console.statements[name] = nil } else { console.portals[name] = nil }
      send { $0.closeComplete() }
    case .functionCall, .password, .sync, .flush, .terminate, .copyData, .copyDone, .copyFail:
      refuseOnConsole(ErrorFields(.error, .featureNotSupported, "the console has no functions"))
    }
  }

  private func refuseUnknownStatement() {
    refuseOnConsole(ErrorFields(.error, .invalidStatementName, "no such prepared statement or portal"))
  }

  /// An error ends the cycle: everything up to its Sync is skipped.
  private func refuseOnConsole(_ fields: ErrorFields) {
    console.skipsUntilSync = true
    send { $0.errorResponse(fields) }
  }

  private func runOnConsole(_ text: WireText, for purpose: ConsoleSession.Purpose) {
    console.running = purpose
    console.commandNumber += 1
    worker.environment.console(
      ConsoleCommand(text: text.text, user: user, isProven: isProven), worker.mailbox, token, console.commandNumber)
  }

  /// A CancelRequest: nobody waits for the command under way any more. What it has changed stays changed.
  func cancelConsoleCommand() {
    guard isRunningCommand else { return }
    consoleReplied(
      .failed(code: "57014", message: "canceling the wait of a command; what it ordered stays in force", hint: nil),
      to: console.commandNumber)
  }

  /// The control plane has carried out a command.
  func consoleReplied(_ reply: ConsoleReply, to number: Int) {
    // It may have been cancelled.
    guard phase == .console, number == console.commandNumber, let purpose = console.running else { return }
    console.running = nil
    if case .failed(let code, let message, let hint) = reply {
      let fields = ErrorFields(
        .error, SQLState(code) ?? .internalError, WireText(message), hint: hint.map { WireText($0) })
      if case .query = purpose {
        send {
          $0.errorResponse(fields)
          $0.readyForQuery(.idle)
        }
      } else {
        refuseOnConsole(fields)
      }
      return worker.resume(self)
    }
    send { writer in
      switch purpose {
      case .query:
        writer.consoleColumns(reply, orNoData: false)
        writer.consoleRows(reply)
        writer.readyForQuery(.idle)
      case .describe: writer.consoleColumns(reply, orNoData: true)
      case .execute: writer.consoleRows(reply)
      }
    }
    if case .describe(let portal?) = purpose { console.portals[portal]?.described = reply }
    worker.resume(self)
  }
}

/// What a console client has prepared, and what is being carried out for it. The extended protocol works as far as
/// drivers need it: without parameters, and a described portal is executed with the rows it was described by.
final class ConsoleSession {
  /// Prepared statements that one client may have.
  static let kept = 64

  enum Purpose {
    case query
    /// The columns are wanted; those of a portal are kept with their rows for its Execute.
    case describe(portal: WireText?)
    case execute
  }

  struct Portal {
    var text: WireText
    var described: ConsoleReply?
  }

  /// The command under way: one at a time.
  var running: Purpose?
  /// Counts commands, so that a late reply to a cancelled one is recognised.
  var commandNumber = 0
  /// An error was sent: everything up to the next Sync is skipped.
  var skipsUntilSync = false
  var statements: [WireText: WireText] = [:]
  /// The latest portal.
  var portals: [WireText: Portal] = [:]
}

extension MessageWriter {
  fileprivate mutating func consoleColumns(_ reply: ConsoleReply, orNoData: Bool) {
    if case .rows(let columns, _, _) = reply {
      rowDescription(
        columns.map { (WireText($0.name), Backend.ColumnAttributes(typeID: $0.typeID, typeSize: $0.typeSize)) })
    } else if orNoData {
      noData()
    }
  }

  fileprivate mutating func consoleRows(_ reply: ConsoleReply) {
    switch reply {
    case .rows(_, let rows, let tag):
      for row in rows { dataRow(row.map { value in value.map { Array($0.utf8) } }) }
      commandComplete(WireText(tag))
    case .done(let tag): commandComplete(WireText(tag))
    case .empty: emptyQueryResponse()
    case .failed: break
    }
  }
}
