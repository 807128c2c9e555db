package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.MultiTokenPrediction;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.SequencedMap;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// The tensors of a model directory under the names that `transformers` gives them, whatever was
/// put around the model when it was saved: what `torch.compile`, data-parallel training, and
/// activation checkpointing put into names is taken out, one prefix of all names is taken off, and
/// `model.` is put before names of a model without its head.
///
/// Whoever reads a tensor [#take]s it, which checks it; what nobody took is [#left].
final class StoredWeights {
  /// What wraps a whole model.
  private static final Pattern WRAPPERS =
      Pattern.compile("(?:(?:module|_orig_mod|_fsdp_wrapped_module)\\.)*");

  /// What wraps a part of it.
  private static final Pattern INNER_WRAPPERS =
      Pattern.compile("(?<=\\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\\.");

  /// The tensor that every model has once, and that says where its names begin.
  private static final String ANCHOR = "layers.0.input_layernorm.weight";

  private static final String BASE = "model.";
  private static final String HEAD = "lm_head.";

  /// What the names of the head that drafts tokens start with, and those of its first block.
  private static final String DRAFTS = "mtp.";

  private static final String DRAFTS_BLOCK = DRAFTS + "layers.0.";

  /// What stands before the names of the text part of a model that sees too.
  private static final String TEXT_PART = "model.language_model.";

  private static final Pattern LAYER = Pattern.compile("model\\.layers\\.(\\d{1,9})\\..*");

  private static final Pattern EXPERT =
      Pattern.compile("model\\.layers\\.(\\d{1,9})\\.mlp\\.experts\\.(\\d{1,9})\\..*");

  private final Path directory;
  private final SequencedMap<String, Entry> entries;
  private final SequencedMap<String, QuantizedMatrix> quantized;
  private final List<String> notes;
  private final Set<String> taken = new HashSet<>();

  /// Quantized matrices of which rows were taken as they are.
  private final Set<String> kept = new HashSet<>();

  /// The quantized matrix that was asked for last: several parameters may stand in one.
  private @Nullable Entry restored;

  private StoredWeights(Path directory, SequencedMap<String, Entry> entries, List<String> notes) {
    this.directory = directory;
    this.entries = entries;
    this.notes = notes;
    var quantization = Quantization.at(directory);
    this.quantized =
        quantization == null ? new LinkedHashMap<>() : quantization.take(entries, directory, notes);
  }

  /// @param model whose tensors they are
  static StoredWeights of(SafetensorsDirectory files, ModelConfig model) {
    return of(files, model, false);
  }

  /// @param drafts whether the head that drafts tokens is wanted too, under the names that
  ///   [MultiTokenPrediction] has for it
  /// @throws InvalidInputException if it is and there is none
  static StoredWeights of(SafetensorsDirectory files, ModelConfig model, boolean drafts) {
    Path directory = files.path();
    List<String> notes = new ArrayList<>();
    var unwrapped = unwrapped(directory, files.entries());
    Map<String, Entry> head = drafts ? takeHead(unwrapped, model, directory) : Map.of();
    passOver(unwrapped, model.family(), directory, notes);
    String anchor = anchor(directory, unwrapped);
    if (anchor == null) {
      return new StoredWeights(directory, unwrapped, notes);
    }
    String before = anchor.substring(0, anchor.length() - ANCHOR.length());
    boolean hasBase = before.equals(BASE) || before.endsWith("." + BASE);
    String prefix = hasBase ? before.substring(0, before.length() - BASE.length()) : before;
    SequencedMap<String, Entry> entries = new LinkedHashMap<>();
    for (var named : unwrapped.entrySet()) {
      String name = named.getKey();
      String rest = name.startsWith(prefix) ? name.substring(prefix.length()) : "";
      boolean isForeign = hasBase && !rest.startsWith(BASE) && rest.contains(".layers.");
      if (rest.isEmpty() || isForeign || (!hasBase && rest.startsWith(BASE))) {
        throw unlike(directory, anchor, name);
      }
      entries.put(hasBase || rest.startsWith(HEAD) ? rest : BASE + rest, named.getValue());
    }
    entries.putAll(head);
    if (!prefix.isEmpty()) {
      notes.add(
          "the names of the weights in %s begin with %s, which was taken off"
              .formatted(directory, Listing.quoted(prefix)));
    }
    return new StoredWeights(directory, entries, notes);
  }

  /// Whether there is a head that drafts tokens, and nothing else of it than is computed here.
  static boolean hasKnownHead(SafetensorsDirectory files, ModelConfig model) {
    var names = unwrapped(files.path(), files.entries()).keySet();
    if (!hasHead(names, model)) {
      return false;
    }
    var wanted = MultiTokenPrediction.parameters(model.decoder()).keySet();
    return names.stream()
        .filter(name -> name.startsWith(DRAFTS) && !name.startsWith(DRAFTS_BLOCK))
        .map(Quantization::matrixOf)
        .allMatch(wanted::contains);
  }

  private static boolean hasHead(Set<String> names, ModelConfig model) {
    return model.family().skipped().contains(DRAFTS)
        && names.stream().map(Quantization::matrixOf).anyMatch((DRAFTS + "fc.weight")::equals);
  }

  /// Takes the head that drafts tokens out of the others; its block becomes the layer after the
  /// model's.
  private static Map<String, Entry> takeHead(
      SequencedMap<String, Entry> entries, ModelConfig model, Path directory) {
    if (!hasHead(entries.keySet(), model)) {
      throw new InvalidInputException(
          "the weights in %s hold no '%sfc.weight' of a model that Sluice can speculate with; leave out --speculate, or fetch a checkpoint that has it"
              .formatted(directory, DRAFTS));
    }
    String block = "model.layers." + model.decoder().layers().size() + ".";
    var wanted = MultiTokenPrediction.parameters(model.decoder()).keySet();
    Map<String, Entry> head = new LinkedHashMap<>();
    for (String name : List.copyOf(entries.keySet())) {
      if (name.startsWith(DRAFTS_BLOCK)) {
        head.put(block + name.substring(DRAFTS_BLOCK.length()), entries.remove(name));
      } else if (wanted.contains(Quantization.matrixOf(name))) {
        head.put(name, entries.remove(name));
      } else if (name.startsWith(DRAFTS) && !name.startsWith(DRAFTS + "layers.")) {
        throw new InvalidInputException(
            "the weights in %s hold %s, which the head that drafts tokens as Sluice computes it does not have; leave out --speculate"
                .formatted(directory, Listing.quoted(name)));
      }
    }
    return head;
  }

  /// Takes out what is no part of the model of next tokens, and the name of the part that is.
  private static void passOver(
      SequencedMap<String, Entry> entries, Family family, Path directory, List<String> notes) {
    for (String start : family.skipped()) {
      long before = entries.size();
      entries.keySet().removeIf(name -> name.startsWith(start));
      if (entries.size() < before) {
        notes.add(
            "the weights in %s hold %d tensors of %s, which are no part of the model of text; they are not read"
                .formatted(directory, before - entries.size(), Listing.quoted(start + "*")));
      }
    }
    for (String name : List.copyOf(entries.keySet())) {
      if (name.startsWith(TEXT_PART)) {
        entries.put(BASE + name.substring(TEXT_PART.length()), entries.remove(name));
      }
    }
  }

  private static SequencedMap<String, Entry> unwrapped(Path directory, List<Entry> stored) {
    SequencedMap<String, Entry> entries = new LinkedHashMap<>();
    String wrappers = null;
    for (Entry entry : stored) {
      Matcher front = WRAPPERS.matcher(entry.name());
      String own = front.lookingAt() ? front.group() : "";
      if (wrappers == null) {
        wrappers = own;
      } else if (!wrappers.equals(own)) {
        throw unlike(directory, stored.getFirst().name(), entry.name());
      }
      String name = INNER_WRAPPERS.matcher(entry.name().substring(own.length())).replaceAll("");
      Entry other = entries.put(name, entry);
      if (other != null) {
        throw new InvalidInputException(
            "the weights in %s hold both %s and %s, which are one tensor of a model; remove one"
                .formatted(directory, Listing.quoted(other.name()), Listing.quoted(entry.name())));
      }
    }
    return entries;
  }

  private static @Nullable String anchor(Path directory, Map<String, Entry> entries) {
    List<String> anchors =
        entries.keySet().stream()
            .filter(name -> name.equals(ANCHOR) || name.endsWith("." + ANCHOR))
            .toList();
    if (anchors.size() > 1) {
      throw new InvalidInputException(
          "the weights in %s hold several models, with %s; save the one to be read by itself"
              .formatted(directory, Listing.of(anchors)));
    }
    return anchors.isEmpty() ? null : anchors.getFirst();
  }

  private static InvalidInputException unlike(Path directory, String one, String other) {
    return new InvalidInputException(
        "the names of the weights in %s begin in different ways, such as %s and %s; save one model by itself, with the names that save_pretrained gives"
            .formatted(directory, Listing.quoted(one), Listing.quoted(other)));
  }

  /// What was done to names, in sentences for the user.
  List<String> notes() {
    return notes;
  }

  boolean has(String name) {
    return entries.containsKey(name) || quantized.containsKey(name);
  }

  /// How many layers there are tensors of.
  int layers() {
    return numbers(LAYER);
  }

  /// How many experts each layer has that has them as tensors of their own.
  Map<Integer, Integer> separateExperts() {
    Map<Integer, Set<String>> experts = new TreeMap<>();
    for (String name : names()) {
      Matcher matcher = EXPERT.matcher(name);
      if (matcher.matches()) {
        experts
            .computeIfAbsent(Integer.valueOf(matcher.group(1)), _ -> new HashSet<>())
            .add(matcher.group(2));
      }
    }
    Map<Integer, Integer> counts = new TreeMap<>();
    experts.forEach((layer, names) -> counts.put(layer, names.size()));
    return counts;
  }

  private int numbers(Pattern names) {
    Set<String> numbers = new HashSet<>();
    for (String name : names()) {
      Matcher matcher = names.matcher(name);
      if (matcher.matches()) {
        numbers.add(matcher.group(1));
      }
    }
    return numbers.size();
  }

  /// The tensor of that name, once it is known to be what the model needs: of that shape, and
  /// finite floating-point numbers all.
  ///
  /// @param hint what to add where the shape is another
  Entry take(String name, long[] shape, String hint) {
    requireShape(name, shape, hint);
    Entry entry = entry(name);
    if (!taken.add(name)) {
      return entry;
    }
    String tensor = described(name);
    if (!entry.type().isFloatingPoint()) {
      throw new InvalidInputException(
          "%s has the type %s where a floating-point type is needed; convert the checkpoint to F32 or BF16"
              .formatted(tensor, entry.type().safetensorsName()));
    }
    long other = FiniteNumbers.firstOther(entry.data(), entry.type());
    if (other >= 0) {
      throw new InvalidInputException(
          "%s is NaN or infinite at %s; use another checkpoint"
              .formatted(tensor, index(other, entry.shape())));
    }
    return entry;
  }

  /// A quantized matrix of that name, once it is known to have the shape that the model needs.
  QuantizedMatrix takeQuantized(String name, long[] shape, String hint) {
    requireShape(name, shape, hint);
    return Objects.requireNonNull(quantized.get(name));
  }

  /// Says that rows of a quantized matrix were taken without [#take].
  void kept(QuantizedMatrix matrix) {
    kept.add(matrix.name());
  }

  private void requireShape(String name, long[] shape, String hint) {
    if (!has(name)) {
      throw missing(name);
    }
    long[] found = shape(name);
    if (!Arrays.equals(found, shape)) {
      throw new InvalidInputException(
          "%s has the shape %s where %s calls for %s%s; correct the config or fetch the weights again"
              .formatted(
                  described(name),
                  Arrays.toString(found),
                  ModelConfig.FILE,
                  Arrays.toString(shape),
                  hint));
    }
  }

  private String described(String name) {
    return "the tensor %s in %s".formatted(Listing.quoted(stored(name)), directory);
  }

  /// `[3, 17]`, the place of an element.
  static String index(long element, List<Long> shape) {
    long[] index = new long[shape.size()];
    for (int i = shape.size() - 1; i >= 0; i--) {
      index[i] = element % shape.get(i);
      element /= shape.get(i);
    }
    return Arrays.toString(index);
  }

  /// The tensor of that name, unchecked.
  Entry entry(String name) {
    var matrix = quantized.get(name);
    if (matrix == null) {
      return Objects.requireNonNull(entries.get(name));
    }
    var last = restored;
    if (last == null || !last.name().equals(name)) {
      restored = null; // so that both are not in memory
      last = matrix.restored();
      restored = last;
    }
    return last;
  }

  /// Whether a tensor has to be made of others, so that it stands nowhere in the file.
  boolean isQuantized(String name) {
    return quantized.containsKey(name);
  }

  private List<String> names() {
    return Stream.concat(entries.keySet().stream(), quantized.keySet().stream()).toList();
  }

  private @Nullable List<Long> dimensions(String name) {
    var matrix = quantized.get(name);
    Entry entry = entries.get(name);
    return matrix != null ? matrix.shape() : entry == null ? null : entry.shape();
  }

  /// The shape of a tensor; empty where there is none of that name.
  long[] shape(String name) {
    var dimensions = dimensions(name);
    return dimensions == null
        ? new long[0]
        : dimensions.stream().mapToLong(Long::longValue).toArray();
  }

  /// The tensors that nobody took, by the names that Sluice has for them.
  Collection<String> left() {
    return names().stream().filter(name -> !taken.contains(name) && !kept.contains(name)).toList();
  }

  /// How a tensor is called in the file.
  String stored(String name) {
    Entry entry = entries.get(name);
    return entry == null ? name : entry.name();
  }

  private InvalidInputException missing(String name) {
    return new InvalidInputException(
        "the tensor '%s' that %s calls for is not in the weights, which hold %s; fetch the checkpoint again or correct the config"
            .formatted(name, directory.resolve(ModelConfig.FILE), nearest(name)));
  }

  /// What there is, with names and shapes: first what stands closest to a tensor's place, then
  /// names that no model of ours has.
  private String nearest(String name) {
    if (names().isEmpty()) {
      return "no tensor";
    }
    String start = name;
    while (!start.isEmpty() && !hasStart(start)) {
      start = start.substring(0, Math.max(0, start.lastIndexOf('.', start.length() - 2) + 1));
    }
    String closest = start;
    Comparator<String> order =
        Comparator.comparingInt(
            own ->
                own.startsWith(closest) ? 0 : own.startsWith(BASE) || own.startsWith(HEAD) ? 2 : 1);
    return Listing.ofWords(
        names().stream()
            .sorted(order)
            .map(
                own ->
                    Listing.quoted(stored(own))
                        + " "
                        + Printable.brief(Objects.requireNonNull(dimensions(own)), 60))
            .toList());
  }

  private boolean hasStart(String start) {
    return start.endsWith(".") && names().stream().anyMatch(own -> own.startsWith(start));
  }
}
