/// What is known of what stands before an opening parenthesis.
enum FunctionMeaning: UInt8 {
  /// Not known: it may do anything to the session.
  case unknown
  /// A keyword that no function can have as its name without a schema or quotes.
  case keyword
  /// A built-in function that leaves nothing behind in the session, or nothing but what other flags tell.
  case harmless
  /// As `harmless`, but only the primary can do it, or it means something else on each server: transaction numbers,
  /// sequences, locks, other sessions.
  case primaryOnly
  case setsSetting, locksAdvisory, unlocksAdvisory, usesSequenceState, notifies
}

/// The functions and keywords that are known, in a table that is made once and looked up without allocation.
///
/// A user's own function may have a built-in's name and be preferred for the types of its arguments; text cannot show
/// that. A schema before the name other than pg_catalog does.
enum FunctionNames {
  /// A name of up to 32 bytes, eight in each word.
  struct Name: Equatable {
    var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

    static func == (one: Name, other: Name) -> Bool { one.words == other.words }

    @inline(__always)
    mutating func append(_ byte: UInt8, at index: Int) {
      switch index >> 3 {
      case 0: words.0 = words.0 << 8 | UInt64(byte)
      case 1: words.1 = words.1 << 8 | UInt64(byte)
      case 2: words.2 = words.2 << 8 | UInt64(byte)
      default: words.3 = words.3 << 8 | UInt64(byte)
      }
    }

    var slot: Int {
      var hash = words.0 &* 0x9e37_79b9_7f4a_7c15
      hash = (hash ^ words.1) &* 0x9e37_79b9_7f4a_7c15
      hash = (hash ^ words.2 ^ words.3) &* 0x9e37_79b9_7f4a_7c15
      return Int(truncatingIfNeeded: hash >> 54)
    }
  }

  private struct Entry {
    var name = Name()
    var meaning = FunctionMeaning.unknown
  }

  /// Open addressing: a name is at its slot or, up to the first free one, after it. Looked into in place, as a copy of
  /// the table would cost more than anything else.
  private static let entries: InlineArray<1024, Entry> = {
    var entries = InlineArray<1024, Entry>(repeating: Entry())
    add(keywords, .keyword, &entries)
    add(harmless, .harmless, &entries)
    add(primaryOnly, .primaryOnly, &entries)
    add("set_config", .setsSetting, &entries)
    add(
      "pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared", .locksAdvisory,
      &entries)
    add("pg_advisory_unlock pg_advisory_unlock_shared pg_advisory_unlock_all", .unlocksAdvisory, &entries)
    add("currval lastval", .usesSequenceState, &entries)
    add("pg_notify", .notifies, &entries)
    return entries
  }()

  /// Adds names with blanks between them.
  private static func add(
    _ names: StaticString, _ meaning: FunctionMeaning, _ entries: inout InlineArray<1024, Entry>
  ) {
    names.withUTF8Buffer { letters in
      var name = Name()
      var length = 0
      for index in 0...letters.count {
        let letter = index < letters.count ? unsafe letters[index] : UInt8(ascii: " ")
        if letter != UInt8(ascii: " ") && letter != UInt8(ascii: "\n") {
          precondition(length < 32, "a name that is too long to be looked up")
          name.append(letter, at: length)
          length += 1
        } else if length > 0 {
          var slot = name.slot
          while entries[slot].meaning != .unknown { slot = (slot + 1) & 1023 }
          entries[slot] = Entry(name: name, meaning: meaning)
          name = Name()
          length = 0
        }
      }
    }
  }

  /// What the name at `range` means: an identifier, or what is inside of its quotes.
  static func meaning(_ text: Span<UInt8>, _ range: Range<Int>, isQuoted: Bool) -> FunctionMeaning {
    guard range.count <= 32 else { return .unknown }
    var name = Name()
    var index = 0
    for offset in range {
      let byte = text[offset]
      let isCapital = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
      if isCapital && isQuoted { return .unknown }
      name.append(isCapital ? byte | 0x20 : byte, at: index)
      index += 1
    }
    var slot = name.slot
    while entries[slot].meaning != .unknown && entries[slot].name != name { slot = (slot + 1) & 1023 }
    let meaning = entries[slot].meaning
    return meaning == .keyword && isQuoted ? .unknown : meaning
  }

  /// Reserved keywords, those that only name columns, and `OPERATOR`, which a parenthesis always makes a keyword
  /// ("SQL Key Words" in PostgreSQL's documentation).
  private static var keywords: StaticString {
    """
    all and any array as asymmetric between bit case cast char character check coalesce dec decimal default distinct
    else except exists extract float foreign from greatest group grouping having in intersect interval into lateral
    least limit national nchar not nullif numeric offset on only operator or overlay position precision primary
    references returning row select setof some substring symmetric table then time timestamp to trim union unique
    using values varchar variadic when where with xmlattributes xmlconcat xmlelement xmlforest xmlparse xmlpi xmlroot
    xmlserialize
    """
  }

  /// Built-in functions that applications call. None runs text as SQL, and none changes what a later statement of the
  /// session would see, but for what sequences and transactions keep.
  private static var harmless: StaticString {
    """
    abs acos age any_value array_agg array_append array_cat array_dims array_fill array_length array_lower array_ndims
    array_position array_positions array_prepend array_remove array_replace array_to_json array_to_string array_upper
    ascii asin atan atan2 avg bit_and bit_length bit_or bool_and bool_or btrim cardinality cbrt ceil ceiling
    char_length character_length chr clock_timestamp col_description concat concat_ws convert_from convert_to corr cos
    count cume_dist current_database current_schema current_schemas current_setting date date_bin date_part date_trunc
    daterange decode degrees dense_rank div encode every exp first_value floor format format_type gcd gen_random_uuid
    generate_series generate_subscripts has_any_column_privilege has_column_privilege has_database_privilege
    has_function_privilege has_schema_privilege has_sequence_privilege has_table_privilege hashtext hashtextextended
    inet_client_addr inet_server_addr initcap int4range int8range isempty isfinite json_agg json_array_elements
    json_array_elements_text json_array_length json_build_array json_build_object json_each json_each_text
    json_extract_path json_extract_path_text json_object json_object_agg json_object_keys json_populate_record
    json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_agg
    jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each
    jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_agg
    jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first
    jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_strip_nulls jsonb_to_record
    jsonb_to_recordset jsonb_typeof justify_days justify_hours justify_interval lag last_value lcm lead left length
    like ln log log10 lower lower_inc lower_inf lpad ltrim make_date make_interval make_time make_timestamp
    make_timestamptz max md5 min mod mode normalize now nth_value ntile num_nonnulls num_nulls numrange obj_description
    octet_length overlaps percent_rank percentile_cont percentile_disc pg_backend_pid pg_blocking_pids
    pg_char_to_encoding pg_column_size pg_conf_load_time pg_database_size pg_encoding_to_char pg_function_is_visible
    pg_get_constraintdef pg_get_expr pg_get_function_arguments pg_get_function_result pg_get_functiondef
    pg_get_indexdef pg_get_partkeydef pg_get_ruledef pg_get_serial_sequence pg_get_triggerdef pg_get_userbyid
    pg_get_viewdef pg_has_role pg_indexes_size pg_is_in_recovery pg_is_other_temp_schema pg_is_wal_replay_paused
    pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_listening_channels
    pg_my_temp_schema pg_options_to_table pg_postmaster_start_time pg_relation_is_updatable pg_relation_size
    pg_size_pretty pg_sleep pg_sleep_for pg_sleep_until pg_table_is_visible pg_table_size pg_total_relation_size
    pg_type_is_visible pg_typeof pg_wal_lsn_diff phraseto_tsquery pi plainto_tsquery pow power quote_ident
    quote_literal quote_nullable radians random rank regexp_count regexp_match regexp_matches regexp_replace
    regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse right round row_number row_to_json
    rpad rtrim setweight sha224 sha256 sha384 sha512 shobj_description sign sin split_part sqrt starts_with
    statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array string_to_table strpos substr sum tan
    timeofday timestamptz timetz timezone to_char to_date to_hex to_json to_jsonb to_number to_regclass to_regnamespace
    to_regproc to_regprocedure to_regrole to_regtype to_timestamp to_tsquery to_tsvector transaction_timestamp
    translate trim_array trunc ts_headline ts_rank ts_rank_cd tsrange tstzrange unnest upper upper_inc upper_inf uuidv4
    uuidv7 var_pop var_samp varbit variance version websearch_to_tsquery width_bucket
    """
  }

  /// As `harmless`, for the primary only.
  private static var primaryOnly: StaticString {
    """
    nextval pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_cancel_backend pg_current_wal_lsn pg_current_xact_id
    pg_terminate_backend pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared setval txid_current
    """
  }
}
