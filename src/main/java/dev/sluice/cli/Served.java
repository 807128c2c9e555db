package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.generation.Generator;
import dev.sluice.kernel.MachineProducts;
import dev.sluice.provenance.RunManifest;
import dev.sluice.state.PrefixCache;
import dev.sluice.template.ChatTemplates;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.MatrixProduct;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// What the commands have in common that answer messages.
final class Served {
  /// Of the machine's memory, for what is kept of conversations.
  private static final int CACHE_SHARE = 4;

  private Served() {}

  /// The templates that conversations are written with.
  ///
  /// @param given in the place of the model's own; null for those
  /// @return null where there are none
  static @Nullable ChatTemplates templates(ModelSource source, @Nullable Path given) {
    return source.files().chatTemplates(given);
  }

  /// The tokens that end a text, and the one that the template ends turns with.
  static Set<Integer> turnEnds(ModelOptions.Loaded loaded, ChatTemplates templates) {
    return loaded.source().files().turnEnds(loaded.stopIds(), loaded.tokenizer(), templates);
  }

  /// Bytes for what is kept of conversations, where nobody says.
  static long cacheBytes() {
    return RunManifest.Machine.current().memoryBytes() / CACHE_SHARE;
  }

  /// All that the bits of what is kept of a text depend on: the model, and the program and the
  /// processor that read the text.
  static String cacheModel(
      ModelSource source, ModelOptions options, Generator generator, @Nullable String weights)
      throws IOException {
    return "%s %s %s %s, sluice %s, libtorch %s, %s %s %s"
        .formatted(
            source.weightsFingerprint(),
            options.precision(),
            generator.decoder().device(),
            weights + " " + generator.decoder().keyValueType(),
            Version.commit(),
            Libtorch.version(),
            RunManifest.Machine.current().cpu(),
            MachineProducts.here() == null ? "" : "products in machine code",
            MatrixProduct.hasBfloat16Units() ? "bfloat16 units" : "");
  }

  /// What the model has read, as it was saved, where that is of this model.
  ///
  /// @param model as in [#cacheModel]
  /// @param file null where nothing was saved
  /// @param replaced whether what is read from now on will be saved there
  static PrefixCache cache(
      Generator generator, String model, @Nullable Path file, boolean replaced, long budget) {
    if (file != null && Files.exists(file)) {
      try {
        return generator.loadPrefixes(file, model, budget);
      } catch (InvalidInputException e) {
        Console.note(
            Main.sentence(e.getMessage())
                + " Conversations are read anew"
                + (replaced ? ", and what was read of them will be saved in its place." : "."));
      }
    }
    return new PrefixCache(model, budget);
  }
}
