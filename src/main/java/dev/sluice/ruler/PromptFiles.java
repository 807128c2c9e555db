package dev.sluice.ruler;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.Failures;
import dev.sluice.files.JsonFile;
import dev.sluice.files.RegularFile;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Prompts in the JSON Lines that NVIDIA's programs write, or those of the port with its
/// `gen_prefix`.
///
/// The task is the field `task`, else the name of the file or of its folder
/// (`niah_single_1/validation.jsonl`). The length asked for is the field `max_seq_length` or
/// `max_length`, else a number among the folders' names (`4096/data/vt/validation.jsonl`) or the
/// file's, else what the user says. The identity of a sample is its line, since the `index` of the
/// needle files is no number of samples.
///
/// @param samples in the order of the files' names and of lines
/// @param notes what the user must know, such as fields that are not read
public record PromptFiles(List<Sample> samples, List<String> notes) {
  private static final JsonMapper JSON = JsonFile.mapper().build();
  private static final int LONGEST = 1 << 24;
  private static final Set<String> KNOWN =
      Set.of(
          "task",
          "max_seq_length",
          "max_length",
          "sample",
          "index",
          "input",
          "input_example",
          "outputs",
          "output",
          "length",
          "length_w_model_temp",
          "answer_prefix",
          "gen_prefix",
          "token_position_answer",
          "prompt",
          "prompt_tokens");

  public PromptFiles {
    samples = List.copyOf(samples);
    notes = List.copyOf(notes);
  }

  /// Reads a file, or all `.jsonl` files of a folder and below.
  ///
  /// @param length asked for, where neither file nor folder says it; null for none
  /// @throws InvalidInputException naming the line, if anything is missing or wrong
  public static PromptFiles read(Path path, RulerMode mode, @Nullable Integer length) {
    List<Sample> samples = new ArrayList<>();
    Set<String> unread = new LinkedHashSet<>();
    for (Path file : files(path)) {
      new Reader(file, mode, length, samples, unread).read();
    }
    if (samples.isEmpty()) {
      throw new InvalidInputException(
          "%s holds no prompts; name files that RULER's prepare.py wrote".formatted(path));
    }
    return new PromptFiles(
        samples,
        unread.isEmpty()
            ? List.of()
            : List.of(
                "Fields that are not read: %s."
                    .formatted(Printable.brief(unread.toString(), 300))));
  }

  private static List<Path> files(Path path) {
    if (!Files.isDirectory(path)) {
      return List.of(path);
    }
    try (Stream<Path> all = Files.walk(path)) {
      var files =
          all.filter(file -> String.valueOf(file.getFileName()).endsWith(".jsonl"))
              .filter(file -> !String.valueOf(file.getFileName()).startsWith("."))
              .sorted()
              .toList();
      if (files.isEmpty()) {
        throw new InvalidInputException(
            "%s holds no .jsonl file; name the folder that RULER's prepare.py wrote"
                .formatted(path));
      }
      return files;
    } catch (IOException | UncheckedIOException e) {
      throw new InvalidInputException(
          "%s cannot be listed (%s); check its permissions".formatted(path, Failures.words(e)), e);
    }
  }

  /// One file.
  private static final class Reader {
    private final Path file;
    private final RulerMode mode;
    private final @Nullable Integer length;
    private final List<Sample> samples;
    private final Set<String> unread;
    private final Map<String, Integer> counts = new HashMap<>();
    private int line;

    Reader(
        Path file,
        RulerMode mode,
        @Nullable Integer length,
        List<Sample> samples,
        Set<String> unread) {
      this.file = file;
      this.mode = mode;
      this.length = length;
      this.samples = samples;
      this.unread = unread;
    }

    void read() {
      byte[] bytes = RegularFile.read(file, JsonFile.LARGE, "name a .jsonl file or a folder");
      String text;
      try {
        text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
      } catch (CharacterCodingException e) {
        throw new InvalidInputException(
            "%s is not UTF-8 text; write it again with RULER's prepare.py".formatted(file), e);
      }
      for (String row : text.split("\n", -1)) {
        line++;
        if (!row.isBlank()) {
          samples.add(sample(object(row)));
        }
      }
    }

    private ObjectNode object(String row) {
      try {
        if (JSON.readTree(row) instanceof ObjectNode object) {
          return object;
        }
      } catch (JacksonException e) {
        throw JsonFile.notJson(place(), row, e, "write the file again");
      }
      throw refused("is not a JSON object", "write the file again");
    }

    private Sample sample(ObjectNode row) {
      row.propertyNames().stream().filter(name -> !KNOWN.contains(name)).forEach(unread::add);
      boolean ofPort = row.has("gen_prefix");
      if (ofPort == row.has("answer_prefix")) {
        throw refused(
            ofPort ? "has both answer_prefix and gen_prefix" : "has no answer_prefix",
            "give each line the one that its program writes");
      }
      if (ofPort != (mode == RulerMode.LM_EVAL)) {
        throw refused(
            ofPort
                ? "has a gen_prefix, so it is of lm-evaluation-harness's port"
                : "has an answer_prefix, so it is of NVIDIA's programs",
            "pass --mode " + (ofPort ? "lm-eval" : "nvidia"));
      }
      var task = task(row);
      int asked = asked(row);
      String input = text(row, "input");
      String prefix = text(row, ofPort ? "gen_prefix" : "answer_prefix");
      String prompt =
          row.has("prompt") ? text(row, "prompt") : input + between(task, ofPort) + prefix;
      int used = number(row, "length");
      return new Sample(
          task,
          asked,
          counts.merge(task.word() + "@" + asked, 1, Integer::sum) - 1,
          row.has("index") ? number(row, "index") : line - 1,
          prompt,
          input,
          prefix,
          outputs(row),
          used,
          row.has("length_w_model_temp") ? number(row, "length_w_model_temp") : used,
          row.has("token_position_answer") ? number(row, "token_position_answer") : null);
    }

    private RulerTask task(ObjectNode row) {
      if (row.has("task")) {
        return RulerTask.find(text(row, "task"))
            .orElseThrow(
                () ->
                    refused(
                        "has the unknown task '%s'"
                            .formatted(Printable.brief(row.get("task").asString(), 60)),
                        "use RULER's names"));
      }
      String name = String.valueOf(file.getFileName()).replaceFirst("\\.jsonl$", "");
      Path folder = file.toAbsolutePath().normalize().getParent();
      String folderName = folder == null ? "" : String.valueOf(folder.getFileName());
      return RulerTask.find(name)
          .or(() -> RulerTask.find(folderName))
          .orElseThrow(
              () ->
                  refused(
                      "does not say its task, nor do the names of the file and its folder",
                      "add a field task, or name the folder by the task as prepare.py does"));
    }

    private int asked(ObjectNode row) {
      for (String name : List.of("max_seq_length", "max_length")) {
        if (row.has(name)) {
          return number(row, name);
        }
      }
      return inName()
          .or(() -> Optional.ofNullable(length))
          .orElseThrow(
              () ->
                  refused(
                      "does not say the length that was asked for, nor does a folder's name",
                      "say it with --lengths"));
    }

    private Optional<Integer> inName() {
      Path path = file.toAbsolutePath().normalize();
      for (int i = path.getNameCount() - 1; i >= 0; i--) {
        String name = path.getName(i).toString().replaceFirst("\\.jsonl$", "");
        if (name.matches("[1-9][0-9]{2,6}")) {
          return Optional.of(Integer.parseInt(name));
        }
      }
      return Optional.empty();
    }

    /// What the port's tasks put between the input and its prefix; NVIDIA's prefixes begin with a
    /// space themselves.
    private static String between(RulerTask task, boolean ofPort) {
      return !ofPort ? "" : task == RulerTask.CWE ? "\n\n" : " ";
    }

    private List<String> outputs(ObjectNode row) {
      JsonNode outputs = row.has("outputs") ? row.get("outputs") : row.path("output");
      List<String> texts = new ArrayList<>();
      for (JsonNode output : outputs.isArray() ? outputs : List.of(outputs)) {
        if (!output.isString()) {
          throw refused(
              row.has("outputs") || row.has("output")
                  ? "has outputs that are not texts"
                  : "has no outputs",
              "give it a list of the references");
        }
        texts.add(output.asString());
      }
      if (texts.isEmpty()) {
        throw refused("has no references in its outputs, so no answer can be scored", "remove it");
      }
      return texts;
    }

    private String text(ObjectNode row, String name) {
      var value = row.path(name);
      if (!value.isString() || value.asString().isEmpty()) {
        throw refused(
            "has %s %s"
                .formatted(
                    value.isMissingNode() ? "no" : value.isString() ? "an empty" : "no text as",
                    name),
            "write the file again");
      }
      return value.asString();
    }

    private int number(ObjectNode row, String name) {
      var value = row.path(name);
      if (!value.isInt() || value.asInt() < -1 || value.asInt() > LONGEST) {
        throw refused(
            "has %s %s"
                .formatted(
                    value.isMissingNode()
                        ? "no"
                        : "'" + Printable.brief(value, 60) + "' and no whole number as",
                    name),
            "write the file again");
      }
      return value.asInt();
    }

    private String place() {
      return "%s, line %d,".formatted(file, line);
    }

    private InvalidInputException refused(String what, String wayOut) {
      return new InvalidInputException("%s %s; %s".formatted(place(), what, wayOut));
    }
  }
}
