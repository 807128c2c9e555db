package dev.sluice.study;

import dev.sluice.training.RunConfig;
import java.util.Map;

/// Settings of a study that takes a second.
public final class SmallStudy {
  public static final RunConfig CONFIG =
      RunConfig.DEFAULTS.with(
          null,
          Map.ofEntries(
              Map.entry("hidden_size", "32"),
              Map.entry("intermediate_size", "48"),
              Map.entry("layers", "2"),
              Map.entry("attention_heads", "2"),
              Map.entry("key_value_heads", "1"),
              Map.entry("head_dim", "16"),
              Map.entry("sequence_length", "64"),
              Map.entry("batch_size", "2"),
              Map.entry("steps", "6"),
              Map.entry("evaluate_every", "3"),
              Map.entry("save_every", "6"),
              Map.entry("held_out_windows", "2"),
              Map.entry("sample_tokens", "0"),
              Map.entry("device", "cpu")));

  private SmallStudy() {}
}
