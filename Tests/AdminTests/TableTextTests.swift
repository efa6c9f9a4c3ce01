import Admin
import Telemetry
import Testing

@Suite struct TableTextTests {
  @Test func textIsAlignedAsPsqlAlignsIt() {
    let rows = [
      SettingRow(key: "a", value: "long value", defaultValue: nil, isChangeable: true),
      SettingRow(key: "bb", value: "tab\there\u{1B}[2J", defaultValue: "x", isChangeable: false),
    ]
    #expect(
      table(rows).alignedText == #"""
         key |      value       | default | changeable
        -----+------------------+---------+------------
         a   | long value       |         | yes
         bb  | tab\there\x1b[2J | x       | no
        (2 rows)

        """#)
  }

  @Test func numbersStandToTheRight() {
    let lists = AdminTable.show(.lists, of: exampleDaemon(), settings: [], stats: StatsPeriods())
    #expect(lists.alignedText.contains("\n free_clients  |    93\n"))
    #expect(lists.alignedText.hasSuffix("\n(14 rows)\n"))
  }

  @Test func jsonHasNumbersNullsAndEscapes() {
    let row = SettingRow(key: "k\"\\\n\u{1}", value: "ü", defaultValue: nil, isChangeable: true)
    #expect(
      table([row]).json == """
        [
          {"key": "k\\"\\\\\\n\\u0001", "value": "ü", "default": null, "changeable": "yes"}
        ]

        """)
    let pools = AdminTable.show(.pools, of: exampleDaemon(), settings: [], stats: StatsPeriods())
    #expect(pools.json.contains("\"cl_waiting\": 2,"))
    #expect(pools.json.contains("\"paused\": false"))
  }

  @Test func noRowsAreAnEmptyArray() {
    #expect(table([]).json == "[]\n")
    #expect(table([]).alignedText.hasSuffix("(0 rows)\n"))
  }

  private func table(_ rows: [SettingRow]) -> AdminTable {
    AdminTable.show(.config, of: exampleDaemon(), settings: rows, stats: StatsPeriods())
  }
}
