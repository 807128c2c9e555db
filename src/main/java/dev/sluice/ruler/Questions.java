package dev.sluice.ruler;

import dev.sluice.InvalidInputException;
import dev.sluice.files.JsonFile;
import dev.sluice.files.RegularFile;
import dev.sluice.files.Sha256;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import tools.jackson.databind.JsonNode;

/// Questions on documents, from a file in the form of SQuAD or of HotpotQA's distractor setting.
///
/// @param fingerprint SHA-256 of the file
/// @param ofSquad whether it has SQuAD's form, for `qa_1`; else HotpotQA's, for `qa_2`
/// @param documents all different ones, sorted
/// @param questions in the file's order
record Questions(
    String name,
    String fingerprint,
    boolean ofSquad,
    List<String> documents,
    List<Question> questions) {
  private static final String WAY_OUT =
      "name a file in the form of SQuAD (an object with data) or of HotpotQA (a list)";

  /// @param outputs the references
  /// @param own documents that hold the answer
  /// @param related documents of the same article
  record Question(String query, List<String> outputs, List<Integer> own, List<Integer> related) {}

  /// @throws InvalidInputException naming what is missing
  static Questions read(Path file) {
    byte[] bytes = RegularFile.read(file, JsonFile.LARGE, WAY_OUT);
    var root = JsonFile.read(file, bytes, WAY_OUT);
    var reader = new Reader(file);
    if (root.isArray()) {
      reader.hotpot(root);
    } else if (root.path("data").isArray()) {
      reader.squad(root.path("data"));
    } else {
      throw new InvalidInputException("%s has neither form; %s".formatted(file, WAY_OUT));
    }
    if (reader.questions.isEmpty()) {
      throw new InvalidInputException(
          "%s holds no question that has an answer; name another file".formatted(file));
    }
    return new Questions(
        file.toString(),
        Sha256.hex(bytes),
        root.isObject(),
        reader.sorted(),
        List.copyOf(reader.questions));
  }

  private static final class Reader {
    private final Path file;
    private final Map<String, Integer> numbers = new HashMap<>();
    private final List<Question> questions = new ArrayList<>();

    Reader(Path file) {
      this.file = file;
    }

    void squad(JsonNode articles) {
      Set<String> all = new TreeSet<>();
      for (var article : articles) {
        for (var paragraph : list(article, "paragraphs")) {
          all.add(text(paragraph, "context"));
        }
      }
      number(all);
      for (var article : articles) {
        List<Integer> ofArticle = new ArrayList<>();
        for (var paragraph : list(article, "paragraphs")) {
          ofArticle.add(numberOf(text(paragraph, "context")));
        }
        for (var paragraph : list(article, "paragraphs")) {
          int own = numberOf(text(paragraph, "context"));
          var related = ofArticle.stream().filter(other -> other != own).toList();
          for (var question : list(paragraph, "qas")) {
            if (question.path("is_impossible").asBoolean(false)) {
              continue;
            }
            List<String> answers = new ArrayList<>();
            list(question, "answers").forEach(answer -> answers.add(text(answer, "text")));
            if (answers.isEmpty()) {
              throw refused("a question without answers that is not marked is_impossible");
            }
            questions.add(new Question(text(question, "question"), answers, List.of(own), related));
          }
        }
      }
    }

    void hotpot(JsonNode rows) {
      Set<String> all = new TreeSet<>();
      for (var row : rows) {
        for (var document : list(row, "context")) {
          all.add(document(document));
        }
      }
      number(all);
      for (var row : rows) {
        List<Integer> own = new ArrayList<>();
        for (var document : list(row, "context")) {
          own.add(numberOf(document(document)));
        }
        questions.add(
            new Question(text(row, "question"), List.of(text(row, "answer")), own, List.of()));
      }
    }

    /// `[title, [sentence, …]]`.
    private String document(JsonNode node) {
      if (!node.isArray()
          || node.size() != 2
          || !node.get(0).isString()
          || !node.get(1).isArray()) {
        throw refused("a document that is not a title and a list of sentences");
      }
      var text = new StringBuilder(node.get(0).asString()).append('\n');
      for (var sentence : node.get(1)) {
        if (!sentence.isString()) {
          throw refused("a sentence that is no text");
        }
        text.append(sentence.asString());
      }
      return text.toString();
    }

    private void number(Set<String> all) {
      all.forEach(document -> numbers.put(document, numbers.size()));
    }

    private int numberOf(String document) {
      return numbers.getOrDefault(document, 0);
    }

    List<String> sorted() {
      return List.copyOf(new LinkedHashSet<>(new TreeSet<>(numbers.keySet())));
    }

    private Iterable<JsonNode> list(JsonNode node, String name) {
      if (!node.path(name).isArray()) {
        throw refused("an entry without a list '" + name + "'");
      }
      return node.path(name);
    }

    private String text(JsonNode node, String name) {
      if (!node.path(name).isString()) {
        throw refused("an entry without a text '" + name + "'");
      }
      return node.path(name).asString();
    }

    private InvalidInputException refused(String what) {
      return new InvalidInputException("%s has %s; %s".formatted(file, what, WAY_OUT));
    }
  }
}
