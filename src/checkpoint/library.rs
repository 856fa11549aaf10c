//! Whose objects a pickle holds, where its arrays are not all of them.

use crate::policy::Judgement;

/// Libraries whose estimators, models and tables are more than their arrays, by the module that their classes are in.
const LIBRARIES: &[(&str, &str)] = &[
    ("sklearn", "scikit-learn"),
    ("gensim", "gensim"),
    ("pandas", "pandas"),
    ("scipy", "scipy"),
    ("xgboost", "XGBoost"),
    ("lightgbm", "LightGBM"),
    ("statsmodels", "statsmodels"),
    ("hmmlearn", "hmmlearn"),
    ("imblearn", "imbalanced-learn"),
];

/// The library whose object a pickle holds, by the names that it refers to.
pub(super) fn library(judgement: &Judgement) -> Option<&'static str> {
    let names = |module: &str| {
        judgement.globals.iter().any(|global| {
            let top = global.name.split('.').next();
            top == Some(module) && !global.name.starts_with("sklearn.externals.joblib")
        })
    };
    LIBRARIES.iter().find(|(module, _)| names(module)).map(|(_, library)| *library)
}
