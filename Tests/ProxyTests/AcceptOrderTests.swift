import Testing

@testable import Proxy

@Suite("Which workers accept clients first")
struct AcceptOrderTests {
  @Test("a worker whose clients all go elsewhere comes last, until one stays")
  func comesLast() {
    let workers = AcceptingWorkers(2)
    var order = AcceptOrder(workers)
    for _ in 1..<AcceptOrder.patience { order.placed(stays: false) }
    #expect(!order.comesLast)
    order.placed(stays: false)
    #expect(order.comesLast)
    order.placed(stays: true)
    #expect(!order.comesLast)
  }

  @Test("a client that stays among many that do not is enough")
  func someStay() {
    var order = AcceptOrder(AcceptingWorkers(2))
    for number in 1...1000 {
      order.placed(stays: number % AcceptOrder.patience == 0)
      #expect(!order.comesLast)
    }
  }

  @Test("a worker that comes last no longer does when others have had to send it many")
  func othersSend() {
    var order = AcceptOrder(AcceptingWorkers(2))
    order.arrived()
    for _ in 0..<2 {
      for _ in 0..<AcceptOrder.patience { order.placed(stays: false) }
      #expect(order.comesLast)
      for _ in 1..<AcceptOrder.patience { order.arrived() }
      #expect(order.comesLast)
      order.arrived()
      #expect(!order.comesLast)
    }
  }

  @Test("never does everybody come last: the one that was left takes its turn when another has clients that stay")
  func oneIsLeft() {
    let workers = AcceptingWorkers(3)
    var orders = (0..<3).map { _ in AcceptOrder(workers) }
    for _ in 0..<2 * AcceptOrder.patience { for index in orders.indices { orders[index].placed(stays: false) } }
    #expect(orders.map(\.comesLast) == [true, true, false])
    orders[0].placed(stays: true)
    orders[2].placed(stays: false)
    #expect(orders.map(\.comesLast) == [false, true, true])
  }
}
