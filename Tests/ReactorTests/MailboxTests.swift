import CLinux
import Glibc
import Testing

@testable import Reactor

@Suite(.timeLimit(.minutes(1))) struct MailboxTests {
  /// How many times its owner has been woken since this was asked last.
  private func wakes(_ descriptor: Int32) -> UInt64 {
    var count: eventfd_t = 0
    return unsafe eventfd_read(descriptor, &count) == 0 ? count : 0
  }

  @Test func mailIsTakenInOrderAndWakesOnce() {
    let mailbox = Mailbox<Int>()
    #expect(wakes(mailbox.descriptor) == 0 && mailbox.drain().isEmpty)
    for _ in 0..<2 {
      for number in 0..<5 { mailbox.post(number) }
      #expect(wakes(mailbox.descriptor) == 1)
      #expect(mailbox.drain() == [0, 1, 2, 3, 4])
      #expect(wakes(mailbox.descriptor) == 0 && mailbox.drain().isEmpty)
    }
  }

  @Test(arguments: EventLoopDriver.usable) func aBatchOfMailIsOneCall(_ driver: EventLoopDriver) {
    let (script, mailbox) = (Script(driver), Mailbox<Int>())
    script.loop.watchMail(mailbox.descriptor)
    script.then { for number in 0..<5 { mailbox.post(number) } }
    var taken: [Int] = []
    script.when("mail arrives") {
      script.mails > 0
    } then: {
      #expect(script.mails == 1)
      taken = mailbox.drain()
    }
    script.then {}
    script.run()
    #expect(taken == [0, 1, 2, 3, 4] && script.mails == 1)
  }

  @Test(arguments: EventLoopDriver.usable) func eachSendersMailStaysInOrderAndNoneIsLost(_ driver: EventLoopDriver)
    async
  {
    struct Letter {
      var sender: Int
      var number: Int
    }
    let mailbox = Mailbox<Letter>()
    let (senders, letters) = (4, 5000)
    async let received = Task.detached { () -> [[Int]] in
      let script = Script(driver)
      script.loop.watchMail(mailbox.descriptor)
      var numbers = [[Int]](repeating: [], count: senders)
      var seen = 0
      script.when("all mail arrives") {
        // Only the descriptor says that there is mail: a lost wake-up ends in a failure.
        guard script.mails > seen else { return false }
        seen = script.mails
        for letter in mailbox.drain() { numbers[letter.sender].append(letter.number) }
        return numbers.allSatisfy { $0.count == letters }
      }
      script.run()
      return numbers
    }.value
    await withTaskGroup(of: Void.self) { group in
      for sender in 0..<senders {
        group.addTask { for number in 0..<letters { mailbox.post(Letter(sender: sender, number: number)) } }
      }
    }
    for numbers in await received { #expect(numbers == Array(0..<letters)) }
  }
}
