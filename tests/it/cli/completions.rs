//! Completion scripts, in the real shells.

use std::path::Path;

use tempfile::TempDir;
use tokio::process::Command;

use super::run;

/// Prints the words that bash proposes for the last of these words.
const BASH: &str = r#"
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
function=$(complete -p eni-gateway | sed -E 's/.* -F ([^ ]+) .*/\1/')
"$function" eni-gateway "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// Types the line and a tab into an interactive zsh, and prints what appears.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell "TERM=dumb zsh -f -i"
zpty -w shell "autoload -Uz compinit && compinit -u -D && source $1 && PROMPT= && setopt list_ambiguous no_beep && LISTMAX=1000 && bindkey '^I' expand-or-complete && print re''ady"
zpty -r -m shell seen "*ready*" || exit 1
shift
zpty -w -n shell "$*"$'\t\t'
zpty -w -n shell $'\C-a: \C-e\n'
zpty -w shell "print fin''ished"
zpty -r -m shell seen "*finished*"
print -r -- "$seen"
"#;

/// Prints the words that fish proposes for the line.
const FISH: &str = r#"
source $argv[1]
complete -C "$argv[2..-1]"
"#;

async fn proposed(shell: &str, script: &str, file: &Path, words: &[&str]) -> String {
    let mut command = Command::new(shell);
    match shell {
        "bash" => command.args(["--norc", "-c", script, "bash"]),
        "zsh" => command.args(["-f", "-c", script, "zsh"]),
        _ => command.args(["--no-config", "-c", script]),
    };
    let home = file.parent().unwrap();
    command.arg(file).args(words).env("HOME", home).env("XDG_CONFIG_HOME", home).current_dir(home);
    let output = command.kill_on_drop(true).output().await.unwrap_or_else(|error| {
        panic!("{shell} cannot be run ({error}); tests/run installs it");
    });
    assert!(output.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[rstest::rstest]
#[case::bash("bash", BASH)]
#[case::zsh("zsh", ZSH)]
#[case::fish("fish", FISH)]
#[tokio::test]
async fn every_word_is_completed(#[case] shell: &str, #[case] script: &str) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("completions");
    std::fs::write(&file, run(&["completions", shell]).await.stdout).unwrap();
    for (words, proposal) in [
        (&["eni-gateway", "simul"][..], "simulator"),
        (&["eni-gateway", "attach", "--valid"], "--validate-only"),
        (&["eni-gateway", "attach", "i-1", "eni-1", "--wat"], "--watch"),
        (&["eni-gateway", "list", "i-1", "--output", "js"], "json"),
        (&["eni-gateway", "ledger", "ini"], "init"),
        (&["eni-gateway", "config", "dump", "--ledger"], "--ledger-url"),
    ] {
        let proposed = proposed(shell, script, &file, words).await;
        assert!(proposed.contains(proposal), "{shell}: {words:?}: {proposed}");
    }
}
