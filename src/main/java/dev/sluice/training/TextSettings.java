package dev.sluice.training;

import dev.sluice.settings.Setting;
import dev.sluice.settings.Settings;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;

/// The text that is learned, and how it becomes tokens.
public record TextSettings(
    @Setting(
            initial = "moby-dick",
            help =
                "A .txt, .jsonl (also .gz, .zst) or Parquet file or a folder of them; moby-dick is"
                    + " the bundled book, bigram-backcopy a made task with documents as long as a"
                    + " sequence.")
        String data,
    @Setting(initial = "text", help = "The JSON field or Parquet column that holds the text.")
        String textField,
    @Setting(initial = "bytes", help = "bytes, or the path of a Hugging Face tokenizer.json.")
        String tokenizer,
    @Setting(
            initial = "",
            help =
                "The token that ends documents, as the vocabulary has it; empty for the one that"
                    + " the files beside tokenizer.json name.")
        String eosToken,
    @Setting(
            initial = "0.1",
            above = 0,
            below = 1,
            use = "a share between 0 and 1",
            help = "The share of the text kept from training.")
        double heldOutShare) {
  /// The bundled book, as `data` calls it.
  public static final String BOOK = "moby-dick";

  public TextSettings {
    Settings.require(!data.isBlank(), "data", data, "name a file or folder");
  }

  /// The text as it is found from anywhere: a file or folder by its whole path, another by its
  /// name.
  String pinnedData() {
    try {
      Path path = Path.of(data);
      return Files.exists(path) ? path.toAbsolutePath().normalize().toString() : data;
    } catch (InvalidPathException _) { // told where it is opened
      return data;
    }
  }
}
