package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.files.Trees;
import dev.sluice.gguf.GgufFile;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// A model as a GGUF file: its metadata as the configuration of its family, and its tensors as the
/// family's parameters.
public final class GgufModel implements AutoCloseable {
  /// What the names of files begin with that hold the eyes and ears of a model.
  private static final String SENSES = "mmproj";

  private final GgufFile file;
  private final GgufArchitecture architecture;
  private final ModelConfig config;

  private GgufModel(GgufFile file) {
    this.file = file;
    this.architecture = GgufConfig.architecture(file);
    this.config = GgufConfig.read(file);
  }

  /// The GGUF file that a path names: itself, or the only model in a directory without a
  /// `config.json`; null where it names none.
  ///
  /// @throws InvalidInputException if a directory holds several models
  public static @Nullable Path at(Path named) {
    if (!Files.isDirectory(named)) {
      return isGguf(named) ? named : null; // be it there or not
    }
    if (Files.exists(named.resolve(ModelConfig.FILE), LinkOption.NOFOLLOW_LINKS)) {
      return null;
    }
    List<Path> models =
        Trees.children(named).stream()
            .filter(
                file ->
                    isGguf(file)
                        && Files.isRegularFile(file)
                        && !String.valueOf(file.getFileName()).startsWith(SENSES)
                        && !GgufFile.isLaterPart(file))
            .sorted()
            .toList();
    if (models.size() > 1) {
      throw new InvalidInputException(
          "%s holds %d models, %s; name one of them"
              .formatted(
                  named,
                  models.size(),
                  Listing.of(
                      models.stream().map(file -> String.valueOf(file.getFileName())).toList())));
    }
    return models.isEmpty() ? null : models.getFirst();
  }

  private static boolean isGguf(Path file) {
    return GgufFile.isNamed(file);
  }

  /// Opens a file; the model's numbers stay where they lie.
  @SuppressWarnings("MustBeClosedChecker") // close() closes it
  static GgufModel open(Path file) {
    var opened = GgufFile.open(file);
    try {
      return new GgufModel(opened);
    } catch (RuntimeException | Error e) {
      opened.close();
      throw e;
    }
  }

  /// What an open file says that its model is.
  public static ModelConfig config(GgufFile file) {
    return GgufConfig.read(file);
  }

  ModelConfig config() {
    return config;
  }

  List<String> notes() {
    return file.notes();
  }

  GgufFile file() {
    return file;
  }

  GgufWeights reader() {
    return reader(false);
  }

  /// @param drafts whether it reads the head that drafts tokens too, which is there
  GgufWeights reader(boolean drafts) {
    return new GgufWeights(file, architecture, config, drafts);
  }

  /// Whether the file has a head that drafts tokens, of a model whose head is computed here.
  private boolean hasHead() {
    return architecture.isHybrid()
        && file.tensors().containsKey(GgufPlace.projection(config.decoder()));
  }

  /// Whether the file has such a head, and nothing else of it than is computed here.
  boolean hasKnownHead() {
    if (!hasHead()) {
      return false;
    }
    var model = config.decoder();
    var whole = config.with(MultiTokenPrediction.withBlock(model));
    Set<String> known = new HashSet<>();
    MultiTokenPrediction.parameters(model)
        .forEach(
            (name, spec) ->
                GgufPlace.of(architecture, whole, Parameter.of(name, spec))
                    .forEach(place -> known.add(place.place().tensor())));
    String block = "blk." + model.layers().size() + ".";
    return file.tensors().keySet().stream()
        .allMatch(name -> !name.startsWith(block) || known.contains(name));
  }

  /// One of the model as it runs where the file lies: value heads of Gated DeltaNet stay in the
  /// file's order, so that no row or column has to be moved.
  ///
  /// @param drafts whether it reads the head that drafts tokens too
  /// @throws InvalidInputException if there is no such head
  GgufWeights readerInPlace(boolean drafts) {
    if (drafts) {
      requireHead();
    }
    var order = architecture.valueHeads();
    return new GgufWeights(file, architecture, config.with(config.decoder().with(order)), drafts);
  }

  private void requireHead() {
    if (!hasHead()) {
      throw new InvalidInputException(
          "%s holds no tensor '%s' of a model that Sluice can speculate with; leave out --speculate, or fetch a file that has it"
              .formatted(file.path(), GgufPlace.projection(config.decoder())));
    }
  }

  @Override
  public void close() {
    file.close();
  }
}
