import Telemetry
import Testing

@Suite struct HistogramTests {
  @Test func everyBucketHoldsExactlyWhatItsBoundsSay() {
    for bucket in 0..<HistogramScale.bucketCount {
      let lower = HistogramScale.lowerBoundMicroseconds(ofBucket: bucket)
      #expect(HistogramScale.bucket(forMicroseconds: lower + 1) == bucket)
      guard let upper = HistogramScale.upperBoundMicroseconds(ofBucket: bucket) else {
        #expect(lower == HistogramScale.longestMicroseconds)
        #expect(HistogramScale.bucket(forMicroseconds: .max) == bucket)
        continue
      }
      #expect(lower < upper)
      #expect(HistogramScale.bucket(forMicroseconds: upper) == bucket)
    }
  }

  @Test func zeroFallsIntoTheFirstBucket() {
    #expect(HistogramScale.bucket(forMicroseconds: 0) == 0)
  }

  @Test func bucketsAreAtMostHalfAsWideAsTheirLowerBoundFromTenMicrosecondsOn() {
    for bucket in 10..<HistogramScale.bucketCount - 1 {
      let lower = HistogramScale.lowerBoundMicroseconds(ofBucket: bucket)
      let upper = HistogramScale.upperBoundMicroseconds(ofBucket: bucket)!
      #expect((upper - lower) * 2 <= lower)
    }
  }

  @Test func countsAndSumAreWhatWasRecorded() {
    let histogram = Histogram()
    for microseconds: UInt64 in [0, 3, 100, 101, 90_000_000] { histogram.record(microseconds: microseconds) }
    let snapshot = histogram.snapshot()
    #expect(snapshot.count == 5)
    #expect(snapshot.sumMicroseconds == 90_000_204)
    #expect(snapshot.count(upToMicroseconds: 1) == 1)
    #expect(snapshot.count(upToMicroseconds: 100) == 3)
    #expect(snapshot.count(upToMicroseconds: 150) == 4)
    #expect(snapshot.count(upToMicroseconds: 60_000_000) == 4)
  }

  @Test func quantilesLieWithinTheBucketOfTheTrueValue() {
    let histogram = Histogram()
    for microseconds: UInt64 in 1...10_000 { histogram.record(microseconds: microseconds) }
    let snapshot = histogram.snapshot()
    for quantile in [0.01, 0.5, 0.9, 0.99, 1] {
      let value = snapshot.quantile(quantile)!
      #expect(abs(value - 10_000 * quantile) <= 1, "quantile \(quantile) is \(value)")
    }
  }

  @Test func nothingRecordedHasNoQuantile() {
    #expect(Histogram().snapshot().quantile(0.5) == nil)
  }

  @Test func aQuantileBeyondTheScaleIsTheScalesEnd() {
    let histogram = Histogram()
    histogram.record(microseconds: 3_600_000_000)
    #expect(histogram.snapshot().quantile(0.5) == 60_000_000)
  }

  @Test func addingUpAddsEveryBucket() {
    let left = Histogram()
    let right = Histogram()
    left.record(microseconds: 5)
    right.record(microseconds: 5)
    right.record(microseconds: 7_000)
    var sum = left.snapshot()
    sum += right.snapshot()
    #expect(sum.count == 3)
    #expect(sum.count(upToMicroseconds: 5) == 2)
    #expect(sum.sumMicroseconds == 7_010)
  }
}
