//! The recipes of docs/simulator.md, run as they stand.

use std::time::Duration;

use eni_gateway::model::Reason;
use eni_gateway::simulator::{Fault, WorldFile};

use super::run;
use crate::support::gateway::Stage;
use crate::support::redis::Server;

const DOCUMENT: &str = include_str!("../../../docs/simulator.md");
/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(150);

struct Recipe {
    reason: &'static str,
    fault: Option<Fault>,
    commands: Vec<Vec<&'static str>>,
}

/// What stands between back-quotes.
fn quoted(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn recipes() -> Vec<Recipe> {
    let (_, table) = DOCUMENT.split_once("<!-- recipes: ").unwrap();
    let (table, _) = table.split_once("<!-- end of the recipes -->").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        let [_, reason, fault, commands, _] = cells[..] else { panic!("{row}") };
        Recipe {
            reason: quoted(reason)[0],
            fault: quoted(fault).first().map(|text| serde_json::from_str(text).expect(text)),
            commands: quoted(commands)
                .into_iter()
                .map(|command| command.split(' ').skip(1).collect())
                .collect(),
        }
    })
    .collect()
}

#[test]
fn every_reason_has_a_recipe() {
    let (_, recipes) = DOCUMENT.split_once("## Recipes").unwrap();
    for reason in Reason::ALL {
        assert!(recipes.contains(&format!("`{reason}`")), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_recipe_gives_its_reason() {
    let stage = Stage::over(Server::start().await, WorldFile::default_world()).await;
    let replica = stage.replica(&[]).await;
    let endpoint = replica.endpoint();
    let recipes = recipes();
    assert!(recipes.len() > 15);
    for Recipe { reason, fault, commands } in recipes {
        if let Some(fault) = fault {
            stage.ens.fault(fault);
        }
        let mut last = None;
        for command in commands {
            let arguments = [&command[..], &["--endpoint", &endpoint]].concat();
            let ran = tokio::time::timeout(PATIENCE, run(&arguments)).await;
            last = Some(ran.unwrap_or_else(|_| panic!("{reason}: no end of {command:?}")));
        }
        stage.ens.clear_faults();
        let ran = last.expect("a recipe has a command");
        assert!(ran.stderr.contains(&format!("error: {reason} (")), "{reason}: {ran:?}");
    }
}
