import Testing

@testable import Logs

@Suite("Folding of repetitions")
struct RepetitionsTests {
  private let repetitions = Subject()

  /// Windows of ten, for two kinds of things at most.
  private final class Subject {
    private var repetitions = Repetitions<String, String>(windowNanoseconds: 10, limit: 2)

    func happens(_ key: String, _ message: String, at now: Int64) -> Bool {
      repetitions.happens(key, message, at: now)
    }

    func counts(at now: Int64) -> [String] {
      repetitions.ended(at: now).map { "\($0.message) \($0.repetitions)" }.sorted()
    }

    func counted(at now: Int64) -> Int { repetitions.ended(at: now).reduce(0) { $0 + $1.repetitions } }

    var nextEnd: Int64? { repetitions.nextEnd }
  }

  @Test("the first is written at once, the others of its window are counted")
  func folds() {
    #expect(repetitions.happens("a", "first", at: 0))
    #expect(repetitions.nextEnd == nil)
    #expect(!repetitions.happens("a", "second", at: 1))
    #expect(!repetitions.happens("a", "third", at: 9))
    #expect(repetitions.nextEnd == 10)
    #expect(repetitions.counts(at: 9) == [])
    #expect(repetitions.counts(at: 10) == ["first 2"])
    #expect(repetitions.nextEnd == nil)
  }

  @Test("after its window the same is a first one again")
  func nextWindow() {
    #expect(repetitions.happens("a", "first", at: 0))
    #expect(repetitions.counts(at: 10) == [])
    #expect(repetitions.happens("a", "later", at: 10))
    #expect(!repetitions.happens("a", "again", at: 19))
    #expect(repetitions.counts(at: 25) == ["later 1"])
  }

  @Test("what differs is not folded together")
  func apart() {
    #expect(repetitions.happens("a", "a", at: 0))
    #expect(repetitions.happens("b", "b", at: 1))
    #expect(!repetitions.happens("b", "b", at: 2))
    #expect(repetitions.counts(at: .max) == ["b 1"])
  }

  @Test("beyond the limit everything is written, and nothing is kept")
  func limit() {
    for key in ["a", "b"] { #expect(repetitions.happens(key, key, at: 0)) }
    for _ in 0..<3 { #expect(repetitions.happens("c", "c", at: 1)) }
    #expect(!repetitions.happens("a", "a", at: 1))
    #expect(repetitions.counts(at: 10) == ["a 1"])
    #expect(repetitions.happens("c", "c", at: 11))
    #expect(!repetitions.happens("c", "c", at: 12))
  }

  @Test("every event is written or counted, none twice")
  func conservation() {
    var written = 0
    for now in 0..<1000 {
      written += repetitions.counted(at: Int64(now))
      if repetitions.happens("\(now % 3)", "", at: Int64(now)) { written += 1 }
    }
    written += repetitions.counted(at: .max)
    #expect(written == 1000)
  }
}
